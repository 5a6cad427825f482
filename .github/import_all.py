"""Import every module of the installed package; a module may lack one of its extras, and must say which."""
import importlib, pkgutil, sys, time

start = time.perf_counter()
import mim_istd
first = time.perf_counter() - start
lacking = []
for module in pkgutil.walk_packages(mim_istd.__path__, 'mim_istd.'):
    try: importlib.import_module(module.name)
    except ImportError as e:
        if e.name is None or e.name.split('.')[0] == 'mim_istd': raise
        lacking.append(f'{module.name} (needs {e.name})')
print(f'Python {sys.version.split()[0]}: import mim_istd takes {first:.2f} s; not importable here: {", ".join(lacking) or "none"}')
if first > 0.3: sys.exit('import mim_istd takes more than 0.3 s')
