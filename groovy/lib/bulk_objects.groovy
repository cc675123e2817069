/*
 * NucliSeg QP: makes many detections at once out of arrays; used by nucliseg-qp, not by people.
 *
 * One call for each number across the border between Python and Java costs ten times as much.
 */
import groovy.transform.CompileStatic

import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs

@CompileStatic
class BulkObjects {

    /**
     * @param x vertices of all outlines in pixels, one outline after the other
     * @param start outline i begins at start[i] and ends before start[i + 1]
     * @param ids two numbers for each nucleus: the high and the low half of its UUID
     * @param classIndex position in classes, -1 for none
     * @param values measurements, a row for each nucleus; NaN is left out
     */
    static List<PathObject> detections(double[] x, double[] y, int[] start, long[] ids, int[] classIndex,
                                       PathClass[] classes, String[] names, float[] values, ImagePlane plane) {
        int count = start.length - 1
        List<PathObject> objects = new ArrayList<PathObject>(count)
        for (int i = 0; i < count; i++) {
            def roi = ROIs.createPolygonROI(
                Arrays.copyOfRange(x, start[i], start[i + 1]), Arrays.copyOfRange(y, start[i], start[i + 1]), plane)
            def nucleus = PathObjects.createDetectionObject(roi, classIndex[i] < 0 ? null : classes[classIndex[i]])
            nucleus.setID(new UUID(ids[2 * i], ids[2 * i + 1]))
            def measurements = nucleus.getMeasurementList()
            for (int k = 0; k < names.length; k++) {
                float value = values[i * names.length + k]
                if (!Float.isNaN(value) && !Float.isInfinite(value))
                    measurements.put(names[k], (double) value)
            }
            measurements.close()
            objects.add(nucleus)
        }
        return objects
    }

    /** Count annotations, and detections by class. */
    static Map<String, Integer> counts(PathObjectHierarchy hierarchy) {
        Map<String, Integer> counts = new TreeMap<>()
        counts.put('annotations', hierarchy.getAnnotationObjects().size())
        for (PathObject nucleus : hierarchy.getDetectionObjects())
            counts.merge(String.valueOf(nucleus.getPathClass()), 1, Integer::sum)
        return counts
    }
}
