/*
 * NucliSeg QP: export annotated nuclei
 *
 * Writes all detections, cells, points and annotations of the open image to
 * "nucliseg/annotated/<entry id>.geojson" beside the project file, where
 * "nucliseg-qp data convert" finds them. Use "Run for project" for all images.
 * Nothing in the project is changed.
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption

def entry = getProjectEntry()
if (getCurrentImageData() == null || entry == null)
    throw new IllegalStateException('NucliSeg QP: open an image of a project first')

def objects = getAllObjects(false).findAll { it.isAnnotation() || it.isDetection() }
if (objects.isEmpty()) {
    println "NucliSeg QP: ${entry.getImageName()}: nothing is annotated"
    return
}
Path folder = entry.getEntryPath().getParent().getParent().resolve('nucliseg').resolve('annotated')
Files.createDirectories(folder)
Path partial = folder.resolve("${entry.getID()}.part")
exportObjectsToGeoJson(objects, partial.toString(), 'FEATURE_COLLECTION')
Path target = folder.resolve("${entry.getID()}.geojson")
Files.move(partial, target, StandardCopyOption.REPLACE_EXISTING)
println "NucliSeg QP: ${entry.getImageName()}: ${objects.size()} objects written to ${target}"
