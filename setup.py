"""Packaging reads everything from settings.ini, which the notebooks' tools read too."""
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_namespace_packages, setup

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
lib = cfg['lib_path']

# NAME_requirements in settings.ini is the extra NAME; 'dev' holds all of them but Ray, which is large and which no test starts
extras = {k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')}
extras['dev'] = list(dict.fromkeys(r for name, requirements in extras.items() if name != 'ray' for r in requirements))

def absolute(link):
    "On the package index a path of this repository leads nowhere."
    kind = 'raw' if link[1].startswith('!') else 'blob'
    return f"{link[1]}({cfg['git_url']}/{kind}/{cfg['branch']}/{link[2]})"

readme = re.sub(r'(!?\[[^]]*\])\((?![a-z]+:|#)([^)\s]+)\)', absolute, Path('README.md').read_text(encoding='utf-8'))

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': cfg['git_url'], 'Issues': cfg['git_url'] + '/issues'},
    keywords=cfg['keywords'].split(),
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research', 'Operating System :: OS Independent',
                 'Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Artificial Intelligence',
                 'Topic :: Scientific/Engineering :: Image Recognition'],
    long_description=readme,
    long_description_content_type='text/markdown',
    packages=find_namespace_packages(include=[lib, lib + '.*']),
    package_data={lib: ['*.mplstyle', 'weights/*', 'examples/*']},
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f'{lib}={lib}._modidx:d']},
)
