"""Infrared small-target detection with Mamba-in-Mamba. The names most people need are here; they are loaded when first used."""
__version__ = "0.1.0"

# name: the module that has it
_PLACES = dict(
    Detector='detection.detector', IRSTDataset='data.sets', MiM='detection.hub', MiMConfig='model.network', SS2D='model.ss2d',
    evaluate='measure.evaluation', get_model='model.network', get_recipe='training.recipe', list_models='model.network',
    open_folder='data.sets', read_frames='data.frames', read_image='data.reading', selective_scan='model.scan', train='training.loop')
__all__ = ['__version__', *_PLACES]

TYPE_CHECKING = bool()   # False; type checkers go by the name, and editors that go by the value cannot tell it
if TYPE_CHECKING:        # the chapter `files` tests that these are the names above
    from .data.frames import read_frames as read_frames
    from .data.reading import read_image as read_image
    from .data.sets import IRSTDataset as IRSTDataset, open_folder as open_folder
    from .detection.detector import Detector as Detector
    from .detection.hub import MiM as MiM
    from .measure.evaluation import evaluate as evaluate
    from .model.network import MiMConfig as MiMConfig, get_model as get_model, list_models as list_models
    from .model.scan import selective_scan as selective_scan
    from .model.ss2d import SS2D as SS2D
    from .training.loop import train as train
    from .training.recipe import get_recipe as get_recipe

def __getattr__(name):
    if name not in _PLACES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    globals()[name] = found = getattr(import_module(f'{__name__}.{_PLACES[name]}'), name)
    return found

def __dir__(): return sorted({*globals(), *_PLACES})
