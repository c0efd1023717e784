"""Models: layers put together, with training, saving and the account on top."""

from tally.models.cloning import clone_model, model_from_json
from tally.models.model import Functional, Model
from tally.models.sequential import Sequential
from tally.saving.archive import load_model, save_model

__all__ = ["Functional", "Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]
