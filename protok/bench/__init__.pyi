from . import (
    data as data,
    evaluation as evaluation,
    measures as measures,
    packing as packing,
    probing as probing,
    report as report,
    representations as representations,
    results as results,
    tasks as tasks,
)
from .data.folder import Folder as Folder
from .data.opening import open_data as open_data
from .data.prepare import prepare as prepare
from .evaluation import available as available, evaluate as evaluate, names as names
from .measures.samples import Settings as Settings
from .packing import load_results as load_results, pack as pack
from .report import write_report as write_report
from .representations.load import representation as representation
from .representations.precomputed import save_precomputed as save_precomputed
from .representations.representation import Representation as Representation
from .results import Result as Result
from .tasks import TASKS as TASKS, Task as Task
