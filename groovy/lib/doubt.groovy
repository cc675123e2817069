import groovy.transform.CompileStatic

import java.nio.file.Path

import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.projects.ProjectImageEntry

// include: lib/ledger.groovy
// include: lib/palette.groovy

/** The nuclei whose class is least sure, one after the other. */
@CompileStatic
class NucliSegDoubt {

    private final PathObjectHierarchy hierarchy
    final List<PathObject> queue
    final List<PathClass> classes
    private int place = 0

    NucliSegDoubt(ImageData imageData, NucliSegLedger ledger, List<PathClass> classes, int limit) {
        this.hierarchy = imageData.getHierarchy()
        this.classes = classes
        List<PathObject> open = hierarchy.getDetectionObjects().findAll { PathObject it -> isOpen(it, ledger) } as List<PathObject>
        List<PathObject> sorted = open.sort(false) { PathObject it -> it.getMeasurements().get(NucliSegLedger.MARGIN).doubleValue() }
        queue = sorted.take(limit)
        if (queue.isEmpty())
            throw new NucliSegProblem('there is nothing to review: the image has no nuclei of NucliSeg QP that nobody looked at yet.')
    }

    /**
     * Classes to choose from: those of the palette that the nuclei were classified with, and others that are in use.
     *
     * At most nine, one for each key; 1+ to 3+ come first, so that their keys are 1 to 3.
     */
    static List<PathClass> choices(ProjectImageEntry entry, ImageData imageData) {
        Path folder = NucliSegFiles.folder(entry)
        String palette = NucliSegPalettes.of(entry)
        List<String> names = palette in NucliSegPalettes.names(folder) ? NucliSegPalettes.read(folder, palette).names : []
        List<String> used = imageData.getHierarchy().getDetectionObjects().collect { PathObject it -> NucliSegLedger.className(it) }.unique()
        List<String> all = (names + used).unique().findAll { String it -> !it.isEmpty() }
        return all.sort(false) { String it -> it ==~ /\d.*/ ? it : '~' }.take(9).collect { String it -> PathClass.fromString(it) }
    }

    /** Nobody has decided on it yet. */
    private static boolean isOpen(PathObject nucleus, NucliSegLedger ledger) {
        Number margin = nucleus.getMeasurements().get(NucliSegLedger.MARGIN)
        String before = ledger.classes.get(nucleus.getID().toString())
        return margin != null && !Double.isNaN(margin.doubleValue()) && !nucleus.isLocked() &&
            !ledger.reviewed.contains(nucleus) && (before == null || before == NucliSegLedger.className(nucleus))
    }

    PathObject current() {
        return queue[place]
    }

    String line() {
        PathObject nucleus = current()
        return "${place + 1} of ${queue.size()}: ${NucliSegLedger.className(nucleus) ?: 'no class'}, margin " +
            String.format(Locale.ENGLISH, '%.3f', nucleus.getMeasurements().get(NucliSegLedger.MARGIN).doubleValue())
    }

    void select() {
        hierarchy.getSelectionModel().setSelectedObject(current())
    }

    boolean step(int count) {
        int wanted = place + count
        // What was deleted meanwhile needs no decision.
        while (wanted >= 0 && wanted < queue.size() && queue[wanted].getParent() == null)
            wanted += count
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
