"""The verbs and what they share."""

from __future__ import annotations

from cyclopts import App, Parameter
from cyclopts.config import Env

from nucliseg_qp import __version__

__all__ = ["app"]

app = App(
    name="nucliseg-qp",
    version=f"nucliseg-qp {__version__}",
    help="Find, outline and classify stained nuclei and put them into QuPath.\n\n"
    "Research use only. Start with `nucliseg-qp demo`.",
    help_format="markdown",
    config=[Env("NUCLISEG_QP_", command=False)],
    default_parameter=Parameter(show_env_var=False),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

# Each verb's module is imported only when the verb is used, so that --help is quick.
app.command("nucliseg_qp.cli.detect:detect")
app.command("nucliseg_qp.cli.annotate:annotate")
app.command("nucliseg_qp.cli.demo:demo")
app.command("nucliseg_qp.cli.doctor:doctor")
app.command("nucliseg_qp.cli.settings:settings")
app.command("nucliseg_qp.cli.data:data", name="data")
app.command("nucliseg_qp.cli.train:train")
app.command("nucliseg_qp.cli.evaluate:evaluate")
app.command("nucliseg_qp.cli.export:export")
app.command("nucliseg_qp.cli.scripts:scripts")
app.command("nucliseg_qp.cli.run_request:run_request")
app.command("nucliseg_qp.cli.report:report")
app.command("nucliseg_qp.cli.relink:relink")
app.command("nucliseg_qp.cli.reproduce:reproduce")
