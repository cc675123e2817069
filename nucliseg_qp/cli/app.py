"""The verbs and what they share.

Each verb's module imports what is heavy only inside of its function, so that --help is quick.
"""

from __future__ import annotations

from cyclopts import App, Group, Parameter
from cyclopts.config import Env

from nucliseg_qp import __version__
from nucliseg_qp.cli.annotate import annotate
from nucliseg_qp.cli.data import data
from nucliseg_qp.cli.demo import demo
from nucliseg_qp.cli.detect import detect
from nucliseg_qp.cli.doctor import doctor
from nucliseg_qp.cli.environment import ENVIRONMENT
from nucliseg_qp.cli.evaluate import evaluate
from nucliseg_qp.cli.export import export
from nucliseg_qp.cli.relink import relink
from nucliseg_qp.cli.report import report
from nucliseg_qp.cli.reproduce import reproduce
from nucliseg_qp.cli.review import review
from nucliseg_qp.cli.run_request import run_request
from nucliseg_qp.cli.sample import sample
from nucliseg_qp.cli.scripts import scripts
from nucliseg_qp.cli.settings import settings
from nucliseg_qp.cli.train import train

__all__ = ["app"]


def _shown_default(value: object) -> str | None:
    """Give what --help shows as a default: nothing for what is off, not given or empty."""
    return None if value is None or value is False or value == [] else str(value)


app = App(
    name="nucliseg-qp",
    version=f"nucliseg-qp {__version__}",
    help="Find, outline and classify stained nuclei and put them into QuPath.\n\n"
    "Research use only. Start with: nucliseg-qp demo",
    # Of verbs it is Markdown; what reads that is too much to load for a list of lines.
    help_format="plaintext",
    config=[Env(ENVIRONMENT, command=False)],
    default_parameter=Parameter(show_env_var=False, show_default=_shown_default),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

WORK = Group("Find nuclei", sort_key=1)
PROJECTS = Group("QuPath projects", sort_key=2)
MODELS = Group("Models of your own", sort_key=3)
ABOUT = Group("This installation", sort_key=4)

VERBS = {
    WORK: (detect, annotate, demo),
    PROJECTS: (sample, scripts, report, relink, reproduce, run_request),
    MODELS: (review, data, train, evaluate, export),
    ABOUT: (doctor, settings),
}

for _group, _verbs in VERBS.items():
    for _place, _verb in enumerate(_verbs):
        if isinstance(_verb, App):
            _verb.group, _verb.sort_key, _verb.help_format = (_group,), _place, "markdown"
            app.command(_verb)
        else:
            app.command(_verb, group=_group, sort_key=_place, help_format="markdown")
for _flag in ("--help", "--version"):
    app[_flag].group = (ABOUT,)
