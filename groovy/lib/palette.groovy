import groovy.transform.CompileStatic

import java.nio.file.Files
import java.nio.file.Path

import qupath.lib.objects.PathObject
import qupath.lib.projects.ProjectImageEntry

// include: lib/files.groovy

/** Palettes of the project: classes and the rule that tells them apart, as the engine wrote them. */
@CompileStatic
class NucliSegPalettes {

    /** Shown in the Project tab; the engine writes it too. */
    private static final String METADATA = 'NucliSeg palette'

    static Path file(Path folder, String name) {
        return folder.resolve('palettes').resolve(name.replaceAll('[^\\p{L}\\p{N} ._-]', '_') + '.json')
    }

    static List<String> names(Path folder) {
        File[] files = folder.resolve('palettes').toFile().listFiles() ?: new File[0]
        return files.toList().findAll { File it -> it.getName().endsWith('.json') }
            .collect { File it -> it.getName().substring(0, it.getName().length() - 5) }.sort()
    }

    /** Name of the palette that the image's nuclei were classified with. */
    static String of(ProjectImageEntry entry) {
        return entry.getMetadataValue(METADATA) ?: 'hsv'
    }

    static void note(ProjectImageEntry entry, String name) {
        entry.putMetadataValue(METADATA, name)
    }

    /** What to show for each palette: its classes, what tells them apart, and its name. */
    static Map<String, String> labels(Path folder, List<String> names) {
        return names.unique(false).collectEntries { String it -> [it, label(folder, it)] } as Map<String, String>
    }

    private static String label(Path folder, String name) {
        try {
            Map<String, Object> content = NucliSegFiles.read(file(folder, name))
            return content == null ? name : new NucliSegPalette(content).label() + " (${name})"
        } catch (NucliSegProblem ignored) {
            // Who chooses it is told what is wrong with it.
            return name
        }
    }

    static NucliSegPalette read(Path folder, String name) {
        Map<String, Object> content = NucliSegFiles.read(file(folder, name))
        if (content == null)
            throw new NucliSegProblem("there is no palette \"${name}\" in this project, only: ${names(folder).join(', ') ?: 'none'}. " +
                "In a terminal, bring back those that ship, or add your own:  nucliseg-qp scripts install \"${folder.getParent()}\" --palette FILE.toml")
        return new NucliSegPalette(content)
    }
}

/** Classifies exactly as the engine does: the same numbers in the same order, in double precision. */
@CompileStatic
class NucliSegPalette {

    final List<Map<String, Object>> classes
    final List<String> names
    final List<String> measurements
    final String margin
    private final double[][] references
    private final int[] owners
    private double[] thresholds

    NucliSegPalette(Map<String, Object> content) {
        if (content.get('format') != 1 || !(content.get('rule') in ['nearest-color', 'optical-density']))
            throw new NucliSegProblem("the palette ${content.get('name')} is of another version. Run in a terminal:  nucliseg-qp scripts install PROJECT")
        if (!(content.get('classes') instanceof List && content.get('measurements') instanceof List))
            throw new NucliSegProblem("the palette ${content.get('name')} is damaged. Run in a terminal:  nucliseg-qp scripts install PROJECT")
        classes = (List<Map<String, Object>>) content.get('classes')
        names = classes.collect { Map<String, Object> it -> (String) it.get('name') }
        measurements = (List<String>) content.get('measurements')
        margin = (String) content.get('margin')
        thresholds = content.containsKey('thresholds') ? numbers((List<Number>) content.get('thresholds')) : null
        List<List<Number>> points = (List<List<Number>>) content.get('references') ?: []
        references = new double[points.size()][]
        for (int i = 0; i < points.size(); i++)
            references[i] = numbers(points[i])
        owners = ((List<Number>) content.get('owners') ?: []).collect { Number it -> it.intValue() } as int[]
    }

    /** For people: "Negative / Positive, by colour", or "Negative / Positive, by DAB OD mean from 0.2". */
    String label() {
        String rule = hasThresholds() ? "${measurements[0].replace('Nucleus: ', '')} from ${thresholds.join(', ')}" : 'colour'
        return "${names.join(' / ')}, by ${rule}"
    }

    boolean hasThresholds() {
        return thresholds != null
    }

    /** Other thresholds than the palette's own, one less than there are classes. */
    void setThresholds(List<Double> values) {
        boolean rising = (1..<values.size()).every { int i -> values[i] > values[i - 1] }
        if (!hasThresholds() || values.size() != classes.size() - 1 || (values.size() > 1 && !rising))
            throw new NucliSegProblem(hasThresholds() ?
                "this palette wants ${classes.size() - 1} rising thresholds, one for each class after ${names[0]}." :
                'this palette has reference colours, no thresholds.')
        thresholds = values as double[]
    }

    /** Position of the class in `names`, and by how much it won; -1 and NaN where a measurement is missing. */
    double[] classify(PathObject nucleus) {
        double[] values = new double[measurements.size()]
        for (int i = 0; i < values.length; i++) {
            Number value = nucleus.getMeasurements().get(measurements[i])
            values[i] = value == null ? Double.NaN : value.doubleValue()
        }
        return classify(values)
    }

    double[] classify(double[] values) {
        for (double value : values) {
            if (Double.isNaN(value))
                return [-1.0d, Double.NaN] as double[]
        }
        return hasThresholds() ? byDensity(values[0]) : byColour(values[0], values[1], values[2])
    }

    private double[] byDensity(double value) {
        int index = 0
        double nearest = Double.POSITIVE_INFINITY
        for (double threshold : thresholds) {
            if (value >= threshold)
                index++
            nearest = Math.min(nearest, Math.abs(value - threshold))
        }
        return [(double) index, nearest] as double[]
    }

    /** Nearest reference in the HSV cone, (S cos H, S sin H, V). */
    private double[] byColour(double hue, double saturation, double value) {
        double angle = Math.toRadians(hue)
        double x = saturation * Math.cos(angle)
        double y = saturation * Math.sin(angle)
        double[] distances = new double[classes.size()]
        Arrays.fill(distances, Double.POSITIVE_INFINITY)
        for (int i = 0; i < owners.length; i++) {
            double dx = x - references[i][0]
            double dy = y - references[i][1]
            double dz = value - references[i][2]
            double distance = Math.sqrt(dx * dx + dy * dy + dz * dz)
            distances[owners[i]] = Math.min(distances[owners[i]], distance)
        }
        int best = 0
        for (int i = 1; i < distances.length; i++) {
            if (distances[i] < distances[best])
                best = i
        }
        double second = Double.POSITIVE_INFINITY
        for (int i = 0; i < distances.length; i++) {
            if (i != best)
                second = Math.min(second, distances[i])
        }
        return [(double) best, second - distances[best]] as double[]
    }

    private static double[] numbers(List<Number> values) {
        return values.collect { Number it -> it.doubleValue() } as double[]
    }
}
