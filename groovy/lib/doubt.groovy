import groovy.transform.CompileStatic

import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy

// include: lib/ledger.groovy
// include: lib/problem.groovy

/** The nuclei whose class is least sure, one after the other. */
@CompileStatic
class NucliSegDoubt {

    static final String MARGIN = 'NucliSeg: Class margin'

    private final PathObjectHierarchy hierarchy
    final List<PathObject> queue
    final List<PathClass> classes
    private int place = 0

    NucliSegDoubt(ImageData imageData, NucliSegLedger ledger, List<PathClass> classes, int limit) {
        this.hierarchy = imageData.getHierarchy()
        this.classes = classes
        List<PathObject> open = hierarchy.getDetectionObjects().findAll { PathObject it -> isOpen(it, ledger) } as List<PathObject>
        List<PathObject> sorted = open.sort(false) { PathObject it -> it.getMeasurements().get(MARGIN).doubleValue() }
        queue = sorted.take(limit)
        if (queue.isEmpty())
            throw new NucliSegProblem('there is nothing to review: the image has no nuclei of NucliSeg QP that nobody looked at yet.')
    }

    /** Nobody has decided on it yet. */
    private static boolean isOpen(PathObject nucleus, NucliSegLedger ledger) {
        Number margin = nucleus.getMeasurements().get(MARGIN)
        String before = ledger.classes.get(nucleus.getID().toString())
        return margin != null && !Double.isNaN(margin.doubleValue()) && !nucleus.isLocked() &&
            (before == null || before == NucliSegLedger.className(nucleus))
    }

    PathObject current() {
        return queue[place]
    }

    String line() {
        PathObject nucleus = current()
        return "${place + 1} of ${queue.size()}: ${NucliSegLedger.className(nucleus) ?: 'no class'}, margin " +
            String.format(Locale.ENGLISH, '%.3f', nucleus.getMeasurements().get(MARGIN).doubleValue())
    }

    void select() {
        hierarchy.getSelectionModel().setSelectedObject(current())
    }

    boolean step(int count) {
        int wanted = place + count
        if (wanted < 0 || wanted >= queue.size())
            return false
        place = wanted
        select()
        return true
    }

    /** Give the nucleus a class (its own confirms it), lock it so that the next run keeps it, and go on. */
    boolean decide(PathClass wanted) {
        PathObject nucleus = current()
        if (nucleus.getPathClass() != wanted)
            nucleus.setPathClass(wanted)
        nucleus.setLocked(true)
        hierarchy.fireObjectClassificationsChangedEvent(this, [nucleus])
        return step(1)
    }
}
