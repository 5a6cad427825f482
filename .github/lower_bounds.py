"""The oldest versions that settings.ini allows, as pip constraints: `name>=1.2` becomes `name==1.2`.

    python .github/lower_bounds.py train notebooks > oldest.txt      the core, and these extras"""
import re, sys
from configparser import ConfigParser

settings = ConfigParser(delimiters=['='])
settings.read('settings.ini', encoding='utf-8')
settings = settings['DEFAULT']
for key in ['requirements', *(f'{extra}_requirements' for extra in sys.argv[1:])]:
    for requirement in settings[key].split():
        if m := re.match(r'([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)(.*)$', requirement): print('=='.join(m.groups()[:2]) + m[3])
