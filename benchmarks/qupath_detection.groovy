// QuPath's own positive cell detection on the whole image, once for every line of a file of settings.
// args: um per pixel, the file (one JSON object a line), a folder.
// Writes the nuclei of line k as k.geojson, and prints: BENCH seconds cpuSeconds detections
import java.lang.management.ManagementFactory

setImageType('BRIGHTFIELD_H_DAB')
setPixelSizeMicrons(args[0] as double, args[0] as double)
def machine = ManagementFactory.getOperatingSystemMXBean()
new File(args[1]).readLines().eachWithIndex { settings, k ->
    removeAllObjects()
    createFullImageAnnotation(true)
    long wall = System.nanoTime(), cpu = machine.getProcessCpuTime()
    runPlugin('qupath.imagej.detect.cells.PositiveCellDetection', settings)
    double seconds = (System.nanoTime() - wall) / 1e9
    double cpuSeconds = (machine.getProcessCpuTime() - cpu) / 1e9
    println "BENCH ${seconds} ${cpuSeconds} ${getDetectionObjects().size()}"
    exportObjectsToGeoJson(getDetectionObjects(), args[2] + "/${k}.geojson",
        'FEATURE_COLLECTION', 'EXCLUDE_MEASUREMENTS')
}
