"""What a pathologist is told when something is wrong, and that nothing was changed then."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import pytest
import tifffile
from qupath_samples import CLASSES, image_file, result
from script_samples import (
    HELLO,
    PROGRESS,
    code,
    project_with,
    step,
    tissue_image,
    use_engine,
    use_fake,
)

from nucliseg_qp.qupath.engine_place import local_engine
from nucliseg_qp.qupath.files import write_files
from nucliseg_qp.qupath.script_install import install_scripts

pytestmark = pytest.mark.qupath

DETECT = "detect_nuclei.groovy"
OUT = "out = pathlib.Path(json.load(open(sys.argv[2]))['output'])\n"
RESULT = 'print(json.dumps({"event": "result", "path": "x", "nuclei": 1}), flush=True)\n'
MANIFEST = (
    "manifest = {'format': 1, 'width_px': 512, 'height_px': 512, 'mpp': 0.5, 'nuclei': 1,"
    " 'classes': [], 'files': [{'name': 'nuclei.geojson.gz', 'bytes': 20}]}\n"
)
FILE = "(out / 'nuclei.geojson.gz').write_bytes({})\n"
WRITE = "(out / 'result.json').write_text(json.dumps(manifest))\n"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return tissue_image(tmp_path_factory.mktemp("i") / "a b, 'c' é.ome.tif")


@pytest.fixture
def project(tmp_path, image):
    return project_with(tmp_path / "p, 'q' é 核", image)


def refused(probe, folder, *args):
    """Run the detection, see that nothing changed, and give what was said."""
    files = contents(folder)
    [said] = probe.run_steps(folder, step(DETECT, *args), save=False)
    assert said["unchanged"], said
    assert said["events"] == []
    assert said["children"] == 0
    assert contents(folder) == files
    assert re.match(r"NucliSeg QP: .*\.(tif|png): ", said["problem"]), "a batch has many images"
    assert "Exception" not in said["problem"]
    return said["problem"]


def contents(folder):
    skip = {"data", "__pycache__"}
    paths = [p for p in folder.rglob("*") if p.is_file() and not skip & {*p.parts}]
    return {str(p): p.read_bytes() for p in paths if p.suffix != ".pid"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (HELLO + PROGRESS + "sys.exit('boom in the middle')", ["stopped in the middle", "boom"]),
        (HELLO + "os.kill(os.getpid(), signal.SIGKILL)", ["stopped in the middle", "memory"]),
        (HELLO + "print('{\"event\": \"prog', flush=True)\ntime.sleep(60)", ["up to date"]),
        (HELLO + "print('{\"no\": 1}', flush=True)\ntime.sleep(60)", ["up to date"]),
        (HELLO.replace('"format": 1', '"format": 99') + "time.sleep(60)", ["does not fit"]),
        ("sys.exit('Unknown command \"run-request\". See nucliseg-qp --help.')", ["too old"]),
        ("sys.exit('/x/python: No module named nucliseg_qp')", ["no nucliseg-qp", "pip install"]),
        (HELLO, ["without a whole result"]),
        (HELLO + "print('{\"event\": \"progress\"}', flush=True)", ["without a whole result"]),
        (HELLO + RESULT, ["without a whole result"]),
        (HELLO + OUT + MANIFEST + WRITE + RESULT, ["nuclei.geojson.gz is missing"]),
        (
            HELLO + OUT + MANIFEST + FILE.format("b'123'") + WRITE + RESULT,
            ["nuclei.geojson.gz is not whole"],
        ),
        (
            HELLO + OUT + MANIFEST + FILE.format("b'x' * 20") + WRITE + RESULT,
            ["nuclei.geojson.gz is damaged"],
        ),
        (
            HELLO + OUT + MANIFEST + "manifest['width_px'] = 5\n" + WRITE + RESULT,
            ["QuPath sees 512 x 512 px, but 5 x 512 px"],
        ),
        (HELLO + OUT + "(out / 'result.json').write_text('{\"form')\n" + RESULT, ["is damaged"]),
        (
            HELLO + OUT + "(out / 'result.json').write_text('{\"format\": 1} {')\n" + RESULT,
            ["result.json is damaged (not JSON at line 1 column 1"],
        ),
        (HELLO + OUT + MANIFEST + "manifest['format'] = 7\n" + WRITE + RESULT, ["another version"]),
    ],
)  # fmt: skip
def test_an_engine_that_fails(qupath_probe, project, body, words):
    use_fake(project, body)
    said = refused(qupath_probe, project)
    for word in words:
        assert word in said


def test_an_engine_that_is_not_there(qupath_probe, project):
    use_engine(project, "/no/such, place/python", "-I", "-m", "nucliseg_qp")
    said = refused(qupath_probe, project)
    assert "/no/such, place/python" in said
    assert "scripts install" in said
    (project / "nucliseg" / "engine.json").unlink()
    said = refused(qupath_probe, project)
    assert "does not know where the engine is" in said
    assert f'scripts install "{project}"' in said


def test_a_venv_of_windows_has_its_python_one_folder_deeper(qupath_probe, project, tmp_path):
    deeper = tmp_path / "env" / "Scripts" / "python.exe"
    deeper.parent.mkdir(parents=True)
    deeper.symlink_to(sys.executable)
    use_fake(project, HELLO)
    use_engine(project, str(tmp_path / "env" / "python.exe"), str(project / "fake engine.py"))
    assert "without a whole result" in refused(qupath_probe, project)


def test_an_engine_for_another_system_only(qupath_probe, project):
    path = project / "nucliseg" / "engine.json"
    content = json.loads(path.read_text())
    other = "windows" if sys.platform != "win32" else "linux"
    path.write_text(json.dumps({**content, "engines": {other: {"command": ["x"]}}}))
    assert "knows no engine for" in refused(qupath_probe, project)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["scope=everywhere"], "scope=everywhere is not known"),
        (["scope=all"], "has no annotation"),
        (["scope=selected"], "no annotation is selected"),
        (["threshold=much"], "threshold=much is not a number"),
        (["rubbish"], '"rubbish" is not known'),
        (["device=cuda:7"], "device 'cuda:7' is not here"),
        (["model=none-such"], "none-such"),
        (["palette=none-such"], "palette 'none-such'"),
        (["masks.reach_um=-1"], "masks.reach_um"),
        (["config=/no/such.toml"], "/no/such.toml"),
    ],
)
def test_settings_that_cannot_be(qupath_probe, project, args, words):
    assert words in refused(qupath_probe, project, *args)


@pytest.mark.parametrize("name", ["none.png", "qupath_says_1_um.tif"])
def test_no_pixel_size(qupath_probe, tmp_path, name):
    from PIL import Image
    from skimage.data import immunohistochemistry

    pixels = immunohistochemistry()
    if name.endswith(".png"):
        Image.fromarray(pixels).save(tmp_path / name)
    else:
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb")
    folder = project_with(tmp_path / "p", tmp_path / name)
    said = refused(qupath_probe, folder)
    assert "no pixel size" in said
    assert "Image tab" in said
    size = code("println getCurrentServer().getPixelCalibration().getAveragedPixelSizeMicrons()")
    done = qupath_probe.run_steps(folder, step(DETECT, "pixel-size=0.5"), size)
    assert done[0]["problem"] == ""
    assert " nuclei added" in done[0]["text"]
    assert done[1]["text"].strip() == "0.5"


def test_no_project_or_no_image(qupath_probe, project):
    alone = "QP.setBatchProjectAndImage({}, {})\n"
    for given, words in [
        (("null", "getCurrentImageData()"), "belongs to no project"),
        (("getProject()", "null"), "no image is open"),
    ]:
        script = step(DETECT)["script"]
        head, imports = script.split("*/", 1)
        lines = imports.split("ImageData imageData = getCurrentImageData()", 1)
        text = (head + "*/" + lines[0] + "import qupath.lib.scripting.QP\n").join(["", ""])
        text += alone.format(*given) + "ImageData imageData = getCurrentImageData()" + lines[1]
        [said] = qupath_probe.run_steps(project, {"script": text}, save=False)
        assert words in said["problem"]


def test_an_image_that_cannot_be_read(qupath_probe, tmp_path):
    source = tissue_image(tmp_path / "gone.ome.tif")
    folder = project_with(tmp_path / "p", source)
    away = code(f"new File('{source}').renameTo(new File('{source}.away'))")
    said = qupath_probe.run_steps(folder, away, step(DETECT), save=False)
    assert "gone.ome.tif is not there" in said[1]["problem"]
    assert said[1]["unchanged"]


def test_a_damaged_image(qupath_probe, tmp_path):
    source = tissue_image(tmp_path / "cut.ome.tif")
    folder = project_with(tmp_path / "p", source)
    damage = code(
        f"def file = new RandomAccessFile('{source}', 'rw')\n"
        "file.seek((long) (file.length() / 4)); file.write(new byte[60000]); file.close()"
    )
    said = qupath_probe.run_steps(folder, damage, step(DETECT), save=False)
    assert "could not be read" in said[1]["problem"]
    assert said[1]["unchanged"]


def test_a_project_that_cannot_be_written(qupath_probe, tmp_path):
    # A folder in the place of the ledger stops root as well.
    image = image_file(tmp_path)
    folder = tmp_path / "p"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    install_scripts(folder, *local_engine(None, None))
    whole = step("import_nuclei.groovy")
    [said] = qupath_probe.run_steps(folder, whole, save=False)
    ledger = next((folder / "nucliseg").glob("1.*.ledger.gz"))
    ledger.unlink()
    (ledger / "in the way").mkdir(parents=True)
    [said] = qupath_probe.run_steps(folder, whole, save=False)
    assert "cannot be written" in said["problem"]
    assert said["unchanged"]
    assert said["events"] == []


CANCEL = """
import qupath.lib.scripting.QP
def project = getProject(), data = getCurrentImageData()
Throwable problem = null
def words = new StringWriter()
def text = new File('{script}').text
def thread = new Thread({{
    QP.setBatchProjectAndImage(project, data)
    try {{
        def binding = new Binding(args: {args} as String[], out: new PrintWriter(words, true))
        new GroovyShell(QP.class.getClassLoader(), binding).evaluate(text)
    }} catch (Throwable e) {{ problem = e }} finally {{ QP.resetBatchProjectAndImage() }}
}})
thread.start()
def count = {{ ProcessHandle.current().descendants().count() }}
while (thread.isAlive() && count() < {processes}) Thread.sleep(20)
Thread.sleep({ms})
def before = count()
long asked = System.currentTimeMillis()
thread.interrupt()
thread.join()
println "$before processes, ended after ${{System.currentTimeMillis() - asked}} ms"
throw problem
"""


def cancel(folder, milliseconds, processes=1):
    """Detect, press Cancel (interrupt its thread) a while after so many processes are there."""
    script = folder / "scripts" / DETECT
    quoted = str(script).replace("'", "\\'")
    return code(CANCEL.format(script=quoted, args=[], ms=milliseconds, processes=processes))


# The engine itself, but on a disk so slow that it cannot be done in two seconds.
SLOW = """
import time
from nucliseg_qp import work
real = work.read_crop
def slow(*args):
    time.sleep(60)
    return real(*args)
work.read_crop = slow
from nucliseg_qp.cli import main
main()
"""


def test_cancel_after_two_seconds_ends_the_engine(qupath_probe, project, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    use_engine(project, sys.executable, str(tmp_path / "slow.py"))
    files = contents(project)
    [said] = qupath_probe.run_steps(project, cancel(project, 2000), save=False)
    assert "cancelled" in said["problem"]
    assert int(said["text"].split()[0]) >= 1, "the engine was at work"
    assert said["children"] == 0
    assert said["unchanged"]
    assert said["events"] == []
    assert contents(project) == files


STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c',
    'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)'])
pathlib.Path(__file__).with_suffix('.pid').write_text(f'{os.getpid()} {child.pid}')
time.sleep(100)
"""


def test_cancel_ends_children_that_do_not_listen(qupath_probe, project):
    use_fake(project, HELLO + STUBBORN)
    [said] = qupath_probe.run_steps(project, cancel(project, 500, processes=2), save=False)
    assert int(said["text"].split()[0]) == 2
    assert said["children"] == 0
    assert said["unchanged"]
    pids = (project / "fake engine.pid").read_text().split()
    assert not [pid for pid in pids if is_running(int(pid))]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_the_engine_ends_when_qupath_is_gone(tmp_path):
    # A closed pipe is all that is left of a program that was killed.
    request = {"format": 1, "image": {"builder": {}, "width_px": 1, "height_px": 1}}
    (tmp_path / "r.json").write_text(json.dumps(request))
    command = [sys.executable, "-c", WAITING, str(tmp_path / "r.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
        assert b"hello" in engine.stdout.readline()
        time.sleep(0.5)
        assert engine.poll() is None
        engine.stdin.close()
        assert engine.wait(timeout=20) == 130


# The engine itself, with an analysis that never ends.
WAITING = """
import sys, time
import nucliseg_qp.serve
nucliseg_qp.serve.run_request = lambda *_: time.sleep(100)
from nucliseg_qp.cli import run
sys.exit(run(['run-request', sys.argv[1], '--end-with-stdin']))
"""
