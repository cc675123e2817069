// CPU and clock of QuPath's own positive cell detection on the whole image, run after run.
// args: number of runs. Prints one line a run: BENCH seconds cpuSeconds detections
import java.lang.management.ManagementFactory

setImageType('BRIGHTFIELD_H_DAB')
def machine = ManagementFactory.getOperatingSystemMXBean()
int runs = args.length > 0 ? args[0] as int : 5
for (int k = 0; k < runs; k++) {
    clearAllObjects()
    createFullImageAnnotation(true)
    long wall = System.nanoTime(), cpu = machine.getProcessCpuTime()
    runPlugin('qupath.imagej.detect.cells.PositiveCellDetection',
        '{"detectionImageBrightfield":"Optical density sum","requestedPixelSizeMicrons":0.5,' +
        '"backgroundRadiusMicrons":8.0,"medianRadiusMicrons":0.0,"sigmaMicrons":1.5,' +
        '"minAreaMicrons":10.0,"maxAreaMicrons":400.0,"threshold":0.1,"maxBackground":2.0,' +
        '"watershedPostProcess":true,"excludeDAB":false,"cellExpansionMicrons":0.0,' +
        '"includeNuclei":true,"smoothBoundaries":true,"makeMeasurements":true,' +
        '"thresholdCompartment":"Nucleus: DAB OD mean","thresholdPositive1":0.2,' +
        '"thresholdPositive2":0.4,"thresholdPositive3":0.6,"singleThreshold":true}')
    double seconds = (System.nanoTime() - wall) / 1e9
    double cpuSeconds = (machine.getProcessCpuTime() - cpu) / 1e9
    println "BENCH ${seconds} ${cpuSeconds} ${getDetectionObjects().size()}"
}
