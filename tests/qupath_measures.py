"""What QuPath's own classes measure; `test_quantify.py` and `test_scores.py` run it as a process.

Questions come as a JSON list on standard input, answers go as one to standard output.
Java prints to standard error.
"""

from __future__ import annotations

import json
import os
import sys

OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import numpy as np  # noqa: E402
import paquo.java  # noqa: E402, F401 - starts Java
from jpype import JArray, JClass, JDouble, JFloat, JInt, JProxy, JString  # noqa: E402

QP = JClass("qupath.lib.scripting.QP")
QP.getCoreClasses()


def shapes(rings, mpp):
    """Measure polygons as ROI, RoiTools and the cell detection's ObjectMeasurements do."""
    return [_shape(np.array(ring), *mpp) for ring in rings]


def _shape(ring, width, height):
    x, y = ring.T
    roi = JClass("qupath.lib.roi.ROIs").createPolygonROI(JArray(JDouble)(x), JArray(JDouble)(y))
    tools = JClass("qupath.lib.roi.RoiTools")
    return {
        "Nucleus: Area": float(roi.getScaledArea(width, height)),
        "Nucleus: Perimeter": float(roi.getScaledLength(width, height)),
        "Nucleus: Circularity": float(tools.getCircularity(roi, width, height)),
        "centroid": [float(roi.getCentroidX()), float(roi.getCentroidY())],
        **_detector_shape(x, y, width, height),
    }


def _detector_shape(x, y, width, height):
    # The class that writes "Nucleus: Max caliper" and so on is private to its package.
    owner = JClass("java.lang.Class").forName("qupath.imagej.detect.cells.ObjectMeasurements")
    method = next(m for m in owner.getMethods() if "Calibration" in str(m))
    method.setAccessible(True)
    roi = JClass("ij.gui.PolygonRoi")(JArray(JFloat)(x), JArray(JFloat)(y), len(x), 2)
    pixels = JClass("ij.process.FloatProcessor")(int(x.max()) + 2, int(y.max()) + 2)
    calibration = JClass("ij.measure.Calibration")()
    calibration.pixelWidth, calibration.pixelHeight = width, height
    lists = JClass("qupath.lib.measurements.MeasurementListFactory")
    kind = JClass("qupath.lib.measurements.MeasurementList$MeasurementListType").DOUBLE
    measured = lists.createMeasurementList(16, kind)
    method.invoke(None, measured, roi, pixels, calibration, JString("Nucleus: "))
    names = ("Max caliper", "Min caliper", "Eccentricity")
    return {f"Nucleus: {name}": float(measured.get(f"Nucleus: {name}")) for name in names}


def stains(rgb, labels, count, vectors, background):
    """Deconvolve an image and collect statistics per label as WatershedCellDetection does."""
    image, label = np.array(rgb, np.int64), np.array(labels, np.float32)
    packed = image[..., 0] << 16 | image[..., 1] << 8 | image[..., 2]
    matrix = _stain_vectors(vectors, background)
    method = JClass("qupath.lib.color.ColorTransformer$ColorTransformMethod")
    transform = JClass("qupath.lib.color.ColorTransformer").getTransformedPixels
    images = JClass("qupath.lib.analysis.images.SimpleImages")
    found, size = {}, (label.shape[1], label.shape[0])
    marks = images.createFloatImage(JArray(JFloat)(label.ravel()), *size)
    for name, which in (("Hematoxylin", "Stain_1"), ("DAB", "Stain_2"), ("Residual", "Stain_3")):
        values = transform(JArray(JInt)(packed.ravel()), getattr(method, which), None, matrix)
        found[f"{name} pixels"] = [float(value) for value in values]
        helper = JClass("qupath.lib.analysis.stats.StatisticsHelper")
        each = helper.createRunningStatisticsList(count)
        helper.computeRunningStatistics(images.createFloatImage(values, *size), marks, each)
        found[name] = [_statistics(one) for one in each]
    return found


def _stain_vectors(vectors, background):
    create = JClass("qupath.lib.color.StainVector").createStainVector
    first, second = (create(name, *vector) for name, vector in vectors.items())
    return JClass("qupath.lib.color.ColorDeconvolutionStains")("s", first, second, *background)


def _statistics(one):
    values = (one.getMean(), one.getSum(), one.getStdDev(), one.getMax(), one.getMin())
    return [*map(float, values), float(one.getRange())]


def scores(cases, side_px):
    """Count and score detections of given classes inside an annotation."""
    return [_score(counts, side_px) for counts in cases]


def _score(counts, side_px):
    data = _image_data(side_px)
    roi = JClass("qupath.lib.roi.ROIs").createRectangleROI(0.0, 0.0, float(side_px), float(side_px))
    objects = JClass("qupath.lib.objects.PathObjects")
    annotation = objects.createAnnotationObject(roi)
    data.getHierarchy().addObject(annotation)
    dot = JClass("qupath.lib.roi.ROIs").createRectangleROI(10.0, 10.0, 1.0, 1.0)
    from_string = JClass("qupath.lib.objects.classes.PathClass").fromString
    found = [(from_string(name), number) for name, number in counts.items()]
    made = [objects.createDetectionObject(dot, c) for c, number in found for _ in range(number)]
    data.getHierarchy().addObjects(JClass("java.util.ArrayList")(made))
    return _values(data, annotation)


def _image_data(size_px):
    image = JClass("java.awt.image.BufferedImage")(size_px, size_px, 1)
    server = JClass("qupath.lib.images.servers.WrappedBufferedImageServer")("scores", image)
    builder = JClass("qupath.lib.images.servers.ImageServerMetadata$Builder")
    server.setMetadata(builder(server.getMetadata()).pixelSizeMicrons(1.0, 1.0).build())
    return JClass("qupath.lib.images.ImageData")(server)


def _values(data, annotation):
    path_class = JClass("qupath.lib.objects.classes.PathClass")
    base = JArray(path_class)([None])
    lazy = JClass("qupath.lib.lazy.objects.PathObjectLazyValues")
    none = JProxy("java.util.function.Supplier", dict={"get": lambda: JDouble(0.0)})
    positive = path_class.fromString("Positive")
    asked = {
        "positive_percent": lazy.createPositivePercentageMeasurement(data, base),
        "h_score": lazy.createHScoreMeasurement(data, base),
        "allred_proportion": lazy.createAllredProportionMeasurement(data, none, base),
        "allred_intensity": lazy.createAllredIntensityMeasurement(data, none, base),
        "allred_score": lazy.createAllredMeasurement(data, none, base),
        "positive_per_mm2": lazy.createDetectionClassDensityMeasurement(data, positive),
    }
    return {name: float(value.getValue(annotation).doubleValue()) for name, value in asked.items()}


QUESTIONS = {"shapes": shapes, "stains": stains, "scores": scores}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump([QUESTIONS[name](**about) for name, about in asked], OUT)
    OUT.flush()
