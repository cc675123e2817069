import groovy.transform.CompileStatic

import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.geom.prep.PreparedGeometry
import org.locationtech.jts.geom.prep.PreparedGeometryFactory
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.GeometryFactory

import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy

/** Where somebody looked at every nucleus: annotations named or classed "Reviewed". */
@CompileStatic
class NucliSegReviewed {

    static final String NAME = 'reviewed'

    private static final GeometryFactory FACTORY = new GeometryFactory()

    final List<PathObject> areas
    private final List<PreparedGeometry> shapes

    NucliSegReviewed(PathObjectHierarchy hierarchy) {
        areas = hierarchy.getAnnotationObjects().findAll { PathObject it -> isReviewed(it) } as List<PathObject>
        shapes = areas.collect { PathObject it -> PreparedGeometryFactory.prepare((Geometry) it.getROI().getGeometry()) }
    }

    private static boolean isReviewed(PathObject it) {
        String kind = it.getPathClass() == null ? '' : it.getPathClass().toString()
        return it.getROI() != null && it.getROI().isArea() &&
            (NAME.equalsIgnoreCase(it.getName()) || NAME.equalsIgnoreCase(kind))
    }

    boolean contains(PathObject nucleus) {
        return !shapes.isEmpty() && contains(nucleus.getROI().getCentroidX(), nucleus.getROI().getCentroidY())
    }

    boolean contains(double x, double y) {
        for (PreparedGeometry shape : shapes) {
            if (shape.intersects(FACTORY.createPoint(new Coordinate(x, y))))
                return true
        }
        return false
    }
}
