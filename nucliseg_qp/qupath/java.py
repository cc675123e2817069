"""The only module that uses paquo and Java; it is imported in a process of its own.

Many small calls across the border between Python and Java are slow, so nuclei cross it as arrays
and become objects in a compiled Groovy class, and what happens to nuclei that are there already is
decided by the same script that people run inside QuPath.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jpype import JArray, JClass, JDouble, JException, JFloat, JInt, JLong, JString
from paquo.classes import QuPathPathClass
from paquo.images import QuPathImageType
from paquo.projects import QuPathProject

from nucliseg_qp.errors import NucliSegError, QuPathError
from nucliseg_qp.qupath.data_file import data_problem, data_state
from nucliseg_qp.qupath.files import write_manifest
from nucliseg_qp.qupath.geojson import area_feature
from nucliseg_qp.qupath.java_saving import save_data, take_builder
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.results import WrittenImage, analysed_area, load_part
from nucliseg_qp.qupath.scripts import BULK_OBJECTS, IMPORT_NUCLEI, groovy_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.qupath.geojson import RGB
    from nucliseg_qp.qupath.results import ImageResult

__all__ = ["Groovy", "JavaProject"]

JavaObject: TypeAlias = Any

_PathClass = JClass("qupath.lib.objects.classes.PathClass")
_ArrayList = JClass("java.util.ArrayList")


class JavaProject:
    """A QuPath project, opened by QuPath or made by it.

    Parameters
    ----------
    root : Path
        Its folder: a project, or empty.
    classes : sequence of (str, (int, int, int))
        Names and colours of the classes.
    """

    def __init__(self, root: Path, classes: Sequence[tuple[str, RGB]]) -> None:
        self._folder = ProjectFolder(root)
        self._classes = classes
        project = ProjectFile(self._folder)
        if project.is_new:
            # QuPath makes projects in empty folders only, and the lock of the run is in this one.
            project.save()
        self._project = QuPathProject(self._folder.project, mode="r+")
        self._add_classes()
        self._project.save(images=False)
        self._groovy = Groovy()

    def put(self, image: ImageResult) -> WrittenImage:
        """Add an image if it is new, and its nuclei."""
        try:
            return self._put(image)
        except (NucliSegError, OSError, RuntimeError, ValueError, JException) as error:
            return WrittenImage(image.image_path, problem=f"{image.image_path}: {_one_line(error)}")

    def _put(self, image: ImageResult) -> WrittenImage:
        entry_id = self._entry_id(image)
        folder = self._folder.data(entry_id)
        if problem := data_problem(folder):
            raise QuPathError(problem)
        before = data_state(folder)
        entry = self._entry(entry_id)
        data = entry.java_object.readImageData()
        objects = self._objects(image)
        write_manifest(self._folder, entry_id, image, self._classes, [], objects.size() - 1)
        report = self._groovy.import_nuclei(self._project.java_object, data, objects)
        save_data(data, folder, before, self._groovy.counts)
        take_builder(entry.java_object, data.getServer().getBuilder())
        for name, text in image.provenance.items():
            entry.metadata[name] = text
        self._project.save(images=False)
        data.getServer().close()
        added, replaced, kept, deleted, nuclei = report
        return WrittenImage(image.image_path, str(entry_id), added, replaced, kept, deleted, nuclei)

    def _add_classes(self) -> None:
        """Add classes that the project lacks: the first colour a class has in Java is kept."""
        known = {one.id: one for one in self._project.path_classes}
        for name, rgb in self._classes:
            if name not in known:
                known[name] = QuPathPathClass.from_java(_PathClass.fromString(name))
                known[name].color = rgb
        self._project.path_classes = list(known.values())

    def _entry_id(self, image: ImageResult) -> int:
        size_px = (image.width_px, image.height_px)
        found = ProjectFile(self._folder).find(image.image_path, size_px)
        return found.id if found else self._added(image, size_px)

    def _added(self, image: ImageResult, size_px: tuple[int, int]) -> int:
        """Let QuPath add the file, and keep of its images the one that was analysed."""
        images = self._project.add_image(
            image.image_path,
            image_type=QuPathImageType.BRIGHTFIELD_H_DAB,
            allow_duplicates=True,
            return_list=True,
        )
        fitting = [one for one in images if (one.width, one.height) == size_px]
        seen = " and ".join(f"{one.width} x {one.height}" for one in images)
        for one in images:
            if one not in fitting[:1]:
                self._project.remove_image(one)
        if not fitting:
            raise QuPathError(
                f"QuPath sees {seen} px, but {size_px[0]} x {size_px[1]} px were analysed",
                "Use --writer files and tell us about this format.",
            )
        return int(fitting[0].entry_id)

    def _entry(self, entry_id: int) -> JavaObject:
        for one in self._project.images:
            if one.entry_id == str(entry_id):
                return one
        raise QuPathError(f"image {entry_id} left {self._folder.project}", "Run again.")

    def _objects(self, image: ImageResult) -> JavaObject:
        objects = _ArrayList()
        area = area_feature(analysed_area(image)).decode()
        gson = JClass("qupath.lib.io.GsonTools").getInstance()
        objects.add(gson.fromJson(area, JClass("qupath.lib.objects.PathObject")))
        for path in image.parts:
            objects.addAll(self._groovy.detections(*load_part(path)))
        return objects


class Groovy:
    """Our Groovy sources, compiled once."""

    def __init__(self) -> None:
        self._scripting = JClass("qupath.lib.scripting.QP")
        self._loader = JClass("groovy.lang.GroovyClassLoader")(_class_loader(), self._imports())
        self._bulk = JClass(self._loader.parseClass(groovy_source(BULK_OBJECTS), BULK_OBJECTS))
        self._plane = JClass("qupath.lib.regions.ImagePlane").getDefaultPlane()

    @cached_property
    def _import(self) -> JavaObject:
        return JClass(self._loader.parseClass(groovy_source(IMPORT_NUCLEI), IMPORT_NUCLEI))

    def load(self, source: str, *names: str) -> list[JavaObject]:
        """Compile one of our Groovy sources and give classes of it."""
        self._loader.parseClass(groovy_source(source), source)
        return [JClass(self._loader.loadClass(name)) for name in names]

    def detections(self, nuclei: Nuclei, ids: Sequence[str]) -> JavaObject:
        """Make QuPath's objects of a table."""
        x, y = np.ascontiguousarray(nuclei.ring_xy.T)
        uuids = np.frombuffer(bytes.fromhex("".join(ids).replace("-", "")), ">i8")
        columns = list(nuclei.measurements.values())
        values = np.stack(columns, axis=1) if columns else np.empty(0)
        index = nuclei.class_index if len(nuclei.class_index) else np.full(len(nuclei), -1)
        return self._bulk.detections(
            JArray(JDouble)(x),
            JArray(JDouble)(y),
            JArray(JInt)(nuclei.ring_start.astype(np.int32)),
            JArray(JLong)(uuids.astype(np.int64)),
            JArray(JInt)(index.astype(np.int32)),
            JArray(_PathClass)([_PathClass.fromString(name) for name in nuclei.class_names]),
            JArray(JString)(list(nuclei.measurements)),
            JArray(JFloat)(np.ascontiguousarray(values, np.float32).ravel()),
            self._plane,
        )

    def counts(self, hierarchy: JavaObject) -> dict[str, int]:
        """Count annotations, and detections by class."""
        found = self._bulk.counts(hierarchy)
        return {str(key): int(found.get(key)) for key in found.keySet()}

    def import_nuclei(
        self, project: JavaObject, data: JavaObject, objects: JavaObject
    ) -> list[int]:
        """Run the import script for one image with nuclei that are in memory.

        Gives the numbers of nuclei added, replaced, kept, deleted and there in the end.
        """
        binding = JClass("groovy.lang.Binding")()
        binding.setVariable("args", JArray(JString)(["replace"]))
        binding.setVariable("nuclisegObjects", objects)
        script = JClass("org.codehaus.groovy.runtime.InvokerHelper").createScript(
            self._import.class_, binding
        )
        self._scripting.setBatchProjectAndImage(project, data)
        try:
            script.run()
        finally:
            self._scripting.resetBatchProjectAndImage()
        report = binding.getVariable("nuclisegReport")
        names = ("added", "replaced", "kept", "deleted", "nuclei")
        return [int(report.get(name)) for name in names]

    def _imports(self) -> JavaObject:
        """Give the imports every script has in QuPath."""
        imports = JClass("org.codehaus.groovy.control.customizers.ImportCustomizer")()
        imports.addStaticStars("qupath.lib.scripting.QP")
        for core in self._scripting.getCoreClasses():
            if core.getCanonicalName() is not None:
                imports.addImports(core.getCanonicalName())
        configuration = JClass("org.codehaus.groovy.control.CompilerConfiguration")()
        configuration.addCompilationCustomizers(imports)
        return configuration


def _class_loader() -> JavaObject:
    return JClass("qupath.lib.common.GeneralTools").class_.getClassLoader()


def _one_line(error: Exception) -> str:
    text = str(error.getMessage()) if isinstance(error, JException) else str(error)
    return " ".join((text or type(error).__name__).split())
