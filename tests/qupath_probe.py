"""Answers questions about files with the real QuPath; `conftest.py` runs it as a process.

Standard output carries answers only: Java's prints go to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys


def _answers_only():
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


OUT = _answers_only()

import paquo.java as java  # noqa: E402
from jpype import JArray, JClass, JProxy, JString  # noqa: E402

Throwable = JClass("java.lang.Throwable")

QP = JClass("qupath.lib.scripting.QP")
QP.getCoreClasses()


def _object(item, points=False):
    roi, path_class = item.getROI(), item.getPathClass()
    measured = item.getMeasurementList()
    return {
        "id": str(item.getID()),
        "type": str(item.getClass().getSimpleName()),
        "class": None if path_class is None else str(path_class.toString()),
        "color": None if path_class is None else int(path_class.getColor()),
        "locked": bool(item.isLocked()),
        "name": None if item.getName() is None else str(item.getName()),
        "parent": None if item.getParent() is None else str(item.getParent().getID()),
        "roi": str(roi.getRoiName()),
        "area": float(roi.getArea()),
        "valid": bool(roi.getGeometry().isValid()),
        "plane": [int(roi.getZ()), int(roi.getT())],
        "points": _points(roi) if points else None,
        "measurements": {str(k): float(measured.get(k)) for k in measured.getNames()},
    }


def _points(roi):
    return [[float(point.getX()), float(point.getY())] for point in roi.getAllPoints()]


def read_objects(path, points):
    found = java.PathIO.readObjects(java.File(path))
    return {"objects": [_object(item, points) for item in found]}


def read_ids(path):
    found = java.PathIO.readObjects(java.File(path))
    return {"ids": [str(item.getID()) for item in found]}


def project(path):
    opened = _load(path)
    return {
        "version": str(opened.getVersion()),
        "classes": [[str(c.toString()), int(c.getColor())] for c in opened.getPathClasses()],
        "images": [_image(entry) for entry in opened.getImageList()],
    }


def _load(path):
    return java.ProjectIO.loadProject(java.File(path), java.BufferedImage)


def _image(entry):
    data = entry.readImageData()
    server = data.getServer()
    hierarchy = data.getHierarchy()
    calibration = server.getPixelCalibration()
    found = {
        "id": str(entry.getID()),
        "name": str(entry.getImageName()),
        "uri": [str(uri) for uri in entry.getURIs()],
        "type": str(data.getImageType().name()),
        "size": [int(server.getWidth()), int(server.getHeight())],
        "mpp": float(calibration.getAveragedPixelSizeMicrons()),
        "metadata": {str(k): str(entry.getMetadataValue(k)) for k in entry.getMetadataKeys()},
        "annotations": [_object(item) for item in hierarchy.getAnnotationObjects()],
        "detections": [_object(item) for item in hierarchy.getDetectionObjects()],
    }
    server.close()
    return found


def run_script(path, script, args, save):
    opened = _load(path)
    results, problems = [], []
    for entry in opened.getImageList():
        data = entry.readImageData()
        try:
            results.append(str(_evaluate(script, opened, data, args)))
            if save:
                entry.saveImageData(data)
        except Throwable as error:
            problems.append(str(error.toString()))
        finally:
            data.getServer().close()
    opened.syncChanges()
    return {"results": results, "problems": problems}


def run_steps(path, steps, save, entry):
    """Run scripts one after the other on the same open image, as a person would."""
    opened = _load(path)
    [found] = [one for one in opened.getImageList() if str(one.getID()) == str(entry)]
    data = found.readImageData()
    answers = [_step(step, opened, data) for step in steps]
    if save:
        found.saveImageData(data)
        opened.syncChanges()
    data.getServer().close()
    return {"steps": answers}


def _step(step, opened, data):
    heard = []
    listener = JProxy(
        "qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener",
        dict={"hierarchyChanged": lambda event: heard.append(str(event.getEventType()))},
    )
    before = _state(data)
    data.getHierarchy().addListener(listener)
    text, problem = _captured(step["script"], opened, data, step.get("args", []))
    data.getHierarchy().removeListener(listener)
    return {
        "text": text,
        "problem": problem,
        "events": heard,
        "unchanged": _state(data) == before,
        "children": int(JClass("java.lang.ProcessHandle").current().descendants().count()),
    }


def _state(data):
    """Everything a script could have changed in an image."""
    objects = [_object(item) for item in data.getHierarchy().getAllObjects(False)]
    steps = [str(step.getName()) for step in data.getHistoryWorkflow().getSteps()]
    keys = {str(k): str(v) for k, v in data.getProperties().items() if "NucliSeg" in str(k)}
    kind, size = data.getImageType(), data.getServer().getPixelCalibration()
    key = lambda item: item["id"]  # noqa: E731
    return json.dumps([sorted(objects, key=key), steps, keys, str(kind), str(size)])


def _captured(script, opened, data, args):
    words = JClass("java.io.StringWriter")()
    binding = JClass("groovy.lang.Binding")()
    binding.setVariable("out", JClass("java.io.PrintWriter")(words, True))
    try:
        _evaluate(script, opened, data, args, binding)
    except Throwable as error:
        return str(words.toString()), str(error.getMessage())
    return str(words.toString()), ""


def read_back(path):
    """Describe a project as paquo sees it."""
    from paquo.projects import QuPathProject

    with QuPathProject(path, mode="r") as opened:
        classes = {one.id: one.color.to_rgb() for one in opened.path_classes}
        return {"classes": classes, "images": [_paquo_image(one) for one in opened.images]}


def _paquo_image(image):
    hierarchy = image.hierarchy
    data = image.java_object.readImageData()
    steps = [str(one.getName()) for one in data.getHistoryWorkflow().getSteps()]
    found = {
        "name": image.image_name,
        "type": image.image_type.name,
        "metadata": dict(image.metadata),
        "annotations": [_paquo_object(one) for one in hierarchy.annotations],
        "detections": [_paquo_object(one) for one in hierarchy.detections],
        "workflow": steps,
    }
    data.getServer().close()
    return found


def _paquo_object(one):
    parent = one.parent
    kind = one.path_class
    x, y = one.roi.centroid.coords[0]
    return {
        "id": str(one.java_object.getID()),
        "class": None if kind is None else kind.id,
        "color": None if kind is None else list(kind.color.to_rgb()),
        "locked": one.locked,
        "name": one.name,
        "parent": None if parent is None else str(parent.java_object.getID()),
        "parent_locked": None if parent is None else bool(parent.locked),
        "x": x,
        "y": y,
        "measurements": dict(one.measurements),
    }


def compile_script(script):
    """Compile as QuPath would, with type checks that find misspelled calls."""
    checks = JClass("org.codehaus.groovy.control.customizers.ASTTransformationCustomizer")
    configuration = _configuration()
    configuration.addCompilationCustomizers(checks(JClass("groovy.transform.TypeChecked").class_))
    loader = JClass("groovy.lang.GroovyClassLoader")(_parent(), configuration)
    try:
        loader.parseClass(script, "script.groovy")
    except Throwable as error:
        return {"problem": str(error.getMessage())}
    return {"problem": ""}


def _parent():
    return java.GeneralTools.class_.getClassLoader()


def _configuration():
    imports = JClass("org.codehaus.groovy.control.customizers.ImportCustomizer")()
    imports.addStaticStars("qupath.lib.scripting.QP")
    for core in QP.getCoreClasses():
        if core.getCanonicalName() is not None:
            imports.addImports(core.getCanonicalName())
    configuration = JClass("org.codehaus.groovy.control.CompilerConfiguration")()
    configuration.addCompilationCustomizers(imports)
    return configuration


def _evaluate(text, opened, data, args, binding=None):
    binding = binding or JClass("groovy.lang.Binding")()
    binding.setVariable("args", JArray(JString)(args))
    shell = JClass("groovy.lang.GroovyShell")(_parent(), binding, _configuration())
    QP.setBatchProjectAndImage(opened, data)
    try:
        return shell.evaluate(text, "script.groovy")
    finally:
        QP.resetBatchProjectAndImage()


QUESTIONS = {
    "read_objects": read_objects,
    "read_ids": read_ids,
    "project": project,
    "run_script": run_script,
    "run_steps": run_steps,
    "read_back": read_back,
    "compile_script": compile_script,
}


def main():
    gc.freeze()
    for line in sys.stdin:
        about = json.loads(line)
        try:
            answer = QUESTIONS[about.pop("question")](**about)
        except Throwable as error:
            answer = {"problem": str(error.toString())}
        OUT.write(json.dumps(answer) + "\n")
        OUT.flush()


if __name__ == "__main__":
    main()
