/*
 * NucliSeg QP: counts objects by class; used by nucliseg-qp, not by people.
 */
import groovy.transform.CompileStatic

import qupath.lib.objects.PathObject

@CompileStatic
class Numbers {

    /** Count objects by class, those without one under "". */
    static Map<String, Integer> byClass(Collection<? extends PathObject> objects) {
        Map<String, Integer> counts = new TreeMap<>()
        for (PathObject it : objects)
            counts.merge(it.getPathClass() == null ? '' : it.getPathClass().toString(), 1, Integer::sum)
        return counts
    }
}
