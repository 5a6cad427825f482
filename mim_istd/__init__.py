"""Infrared small-target detection with Mamba-in-Mamba. The names most people need are here; they are loaded when first used."""
__version__ = "0.1.0"

# name: the module that has it
_PLACES = dict(
    Detector='detection.detector', MiM='detection.hub', MiMConfig='model.network', SS2D='model.ss2d', evaluate='measure.evaluation',
    get_model='model.network', list_models='model.network', open_folder='data.sets', read_image='data.reading',
    selective_scan='model.scan', train='training.loop')
__all__ = ['__version__', *_PLACES]

def __getattr__(name):
    if name not in _PLACES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    globals()[name] = found = getattr(import_module(f'{__name__}.{_PLACES[name]}'), name)
    return found

def __dir__(): return sorted({*globals(), *_PLACES})
