"""Images of a project that exists: what QuPath holds for them, and nuclei into them.

Like `java.py` it is only imported in a process of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
from jpype import JClass, JException

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.qupath.data_file import data_problem, data_state
from nucliseg_qp.qupath.entries import local_path
from nucliseg_qp.qupath.files import manifest_content
from nucliseg_qp.qupath.geojson import area_feature
from nucliseg_qp.qupath.held import EntryResult, Held, HeldArea, Written
from nucliseg_qp.qupath.java import Groovy
from nucliseg_qp.qupath.java_saving import ChangedMeanwhileError, save_data
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.results import Area, load_part

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.qupath.data_file import DataState

__all__ = ["JavaEntries"]

JavaObject: TypeAlias = Any


class JavaEntries:
    """A project that is never saved itself: what belongs to it is given back to be noted there.

    Parameters
    ----------
    root : Path
        Folder of the project.
    """

    def __init__(self, root: Path) -> None:
        self._folder = ProjectFolder(root)
        self._groovy = Groovy()
        names = ("NucliSegMerge", "NucliSegImage", "NucliSegLedger")
        self._merge, self._image, self._ledger = self._groovy.load("lib/import.groovy", *names)
        [self._numbers] = self._groovy.load("lib/numbers.groovy", "Numbers")
        image = JClass("java.awt.image.BufferedImage").class_
        path = JClass("java.io.File")(str(self._folder.project))
        self._project = JClass("qupath.lib.projects.ProjectIO").loadProject(path, image)

    def read(self, entry_id: int) -> Held:
        """Give what QuPath holds for an image.

        Raises
        ------
        QuPathError
            When the image or its data cannot be read.
        """
        entry, state = self._entry(entry_id), self._state(entry_id)
        data = self._open(entry)
        try:
            self._check_nothing_lost(data, entry)
            return self._held(entry_id, data, state)
        finally:
            data.getServer().close()

    def write(self, result: EntryResult) -> Written:
        """Put nuclei into an image; when somebody saved it meanwhile, nothing is changed.

        Raises
        ------
        QuPathError, OutputError, InputError
            When it cannot be done; the image stays as it was.
        """
        entry, state = self._entry(result.entry_id), self._state(result.entry_id)
        if result.state is not None and state != result.state:
            return Written({}, changed=True)
        data = self._open(entry)
        try:
            self._check_nothing_lost(data, entry)
            return self._write(result, data, state)
        except ChangedMeanwhileError:
            return Written({}, changed=True)
        finally:
            data.getServer().close()

    def _write(self, result: EntryResult, data: JavaObject, state: DataState) -> Written:
        before = data.getServer().getBuilder()
        nuclei = JClass("java.util.ArrayList")()
        for path in result.parts:
            nuclei.addAll(self._groovy.detections(*load_part(path)))
        self._write_manifest(result, nuclei.size())
        self._set_colours(result)
        self._image.calibrate(data, self._manifest(result))
        entry_id = str(result.entry_id)
        ours = self._folder.manifest(0).parent
        report = self._merge.into(
            data, _java_path(ours), entry_id, nuclei, self._parents(result), result.mode
        )
        folder = self._folder.data(result.entry_id)
        save_data(data, folder, state, self._groovy.counts)
        self._remove_old_ledgers(entry_id, str(data.getProperty("NucliSeg ledger")))
        after = data.getServer().getBuilder()
        return Written(
            {str(key): int(report.get(key)) for key in report.keySet()},
            self._held(result.entry_id, data, data_state(folder)),
            None if after.equals(before) else _builder_json(after),
        )

    def _remove_old_ledgers(self, entry_id: str, current: str) -> None:
        """Remove ledgers of earlier runs: the image that belongs to this one is saved."""
        for path in self._folder.manifest(0).parent.glob(f"{entry_id}.*.ledger.gz"):
            if current not in path.name:
                path.unlink(missing_ok=True)

    def _entry(self, entry_id: int) -> JavaObject:
        for one in self._project.getImageList():
            if str(one.getID()) == str(entry_id):
                self._check_reachable(one)
                return one
        raise QuPathError(f"image {entry_id} left {self._folder.project}", "Run again.")

    def _check_reachable(self, entry: JavaObject) -> None:
        for uri in entry.getURIs():
            path = local_path(str(uri))
            if path is None or not path.is_file():
                raise QuPathError(
                    f"{entry.getImageName()}: {path or uri} is not there",
                    "Connect the drive, or run nucliseg-qp relink on the project.",
                )

    def _state(self, entry_id: int) -> DataState:
        folder = self._folder.data(entry_id)
        if problem := data_problem(folder):
            raise QuPathError(problem)
        return data_state(folder)

    def _open(self, entry: JavaObject) -> JavaObject:
        try:
            return entry.readImageData()
        except JException as error:
            raise QuPathError(
                f"QuPath cannot open {entry.getImageName()} ({error.getMessage()})",
                "Open it in QuPath to see why.",
            ) from None

    def _check_nothing_lost(self, data: JavaObject, entry: JavaObject) -> None:
        try:
            self._image.checkNothingLost(data, entry)
        except JException as error:
            raise QuPathError(str(error.getMessage()).removeprefix("NucliSeg QP: ")) from None

    # ---- what QuPath holds ----------------------------------------------------------------------

    def _held(self, entry_id: int, data: JavaObject, state: DataState) -> Held:
        server, hierarchy = data.getServer(), data.getHierarchy()
        size = server.getPixelCalibration()
        known = bool(size.hasPixelSizeMicrons())
        path = _java_path(self._folder.manifest(0).parent)
        ledger = self._ledger.read(path, str(entry_id), data)
        return Held(
            entry_id=entry_id,
            width_px=int(server.getWidth()),
            height_px=int(server.getHeight()),
            planes=int(server.nZSlices()) * int(server.nTimepoints()),
            rgb=bool(server.isRGB()),
            mpp_x=float(size.getPixelWidthMicrons()) if known else None,
            mpp_y=float(size.getPixelHeightMicrons()) if known else None,
            image_type=str(data.getImageType().name()),
            stains=_stains(data),
            areas=tuple(
                self._area(one, hierarchy, ledger, size)
                for one in hierarchy.getAnnotationObjects()
                if one.getROI() is not None and one.getROI().isArea()
            ),
            counts=self._by_class(hierarchy.getDetectionObjects()),
            edits=_numbers(ledger.edits(hierarchy)),
            state=state,
        )

    def _area(
        self, one: JavaObject, hierarchy: JavaObject, ledger: JavaObject, size: JavaObject
    ) -> HeldArea:
        roi, kind = one.getROI(), one.getPathClass()
        scale = (size.getPixelWidthMicrons() / 1000, size.getPixelHeightMicrons() / 1000)
        area_mm2 = float(roi.getScaledArea(*scale)) if size.hasPixelSizeMicrons() else math.nan
        return HeldArea(
            id=str(one.getID()),
            name=str(one.getName() or ""),
            class_name="" if kind is None else str(kind.toString()),
            geometry=orjson.loads(str(_gson().toJson(roi.getGeometry())).encode()),
            z=int(roi.getZ()),
            t=int(roi.getT()),
            ours=bool(ledger.isArea(one)),
            area_mm2=area_mm2,
            counts=self._by_class(_inside(hierarchy, roi)),
        )

    def _by_class(self, objects: JavaObject) -> dict[str, int]:
        return _numbers(self._numbers.byClass(objects))

    # ---- what goes in ---------------------------------------------------------------------------

    def _parents(self, result: EntryResult) -> JavaObject:
        parents = JClass("java.util.ArrayList")()
        for one in result.parents:
            text = area_feature(Area(one.id, one.name, one.geometry)).decode()
            parents.add(_gson().fromJson(text, JClass("qupath.lib.objects.PathObject")))
        return parents

    def _write_manifest(self, result: EntryResult, nuclei: int) -> None:
        content = manifest_content(result, result.image, result.classes, [], nuclei)
        with whole_file(self._folder.manifest(result.entry_id)) as partial:
            partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def _manifest(self, result: EntryResult) -> JavaObject:
        manifest = JClass("java.util.HashMap")()
        manifest.put("mpp", JClass("java.lang.Double")(result.mpp))
        manifest.put("mpp_source", result.mpp_source)
        return manifest

    def _set_colours(self, result: EntryResult) -> None:
        """Colour classes that the project lacks: the first colour a class has in Java is kept."""
        known = {str(one.toString()) for one in self._project.getPathClasses()}
        for name, (red, green, blue) in result.classes:
            if name not in known:
                kind = JClass("qupath.lib.objects.classes.PathClass").fromString(name)
                kind.setColor(red, green, blue)


def _inside(hierarchy: JavaObject, roi: JavaObject) -> JavaObject:
    """Give the detections that QuPath counts for an annotation: by their centroid."""
    if hasattr(hierarchy, "getAllDetectionsForROI"):
        return hierarchy.getAllDetectionsForROI(roi)
    # QuPath 0.5
    return hierarchy.getObjectsForROI(JClass("qupath.lib.objects.PathDetectionObject").class_, roi)


def _stains(data: JavaObject) -> dict[str, list[float]] | None:
    stains = data.getColorDeconvolutionStains()
    if stains is None:
        return None
    found = {
        str(stain.getName()): [
            float(stain.getRed()),
            float(stain.getGreen()),
            float(stain.getBlue()),
        ]
        for stain in (stains.getStain(1), stains.getStain(2))
    }
    background = (stains.getMaxRed(), stains.getMaxGreen(), stains.getMaxBlue())
    return {**found, "background": [float(value) for value in background]}


def _builder_json(builder: JavaObject) -> dict[str, Any]:
    kind = JClass("qupath.lib.images.servers.ImageServerBuilder$ServerBuilder")
    found: dict[str, Any] = orjson.loads(str(_gson().toJson(builder, kind.class_)).encode())
    return found


def _numbers(counts: JavaObject) -> dict[str, int]:
    return {str(key): int(counts.get(key)) for key in counts.keySet()}


def _gson() -> JavaObject:
    return JClass("qupath.lib.io.GsonTools").getInstance()


def _java_path(path: Path) -> JavaObject:
    return JClass("java.nio.file.Paths").get(str(path))
