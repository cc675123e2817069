import groovy.transform.CompileStatic

import java.nio.file.Path

// include: lib/files.groovy

/** Settings of a detection: remembered by the project, overruled by arguments such as scope=image. */
@CompileStatic
class NucliSegOptions {

    private static final Map<String, String> DEFAULTS = [scope: 'auto', model: '', palette: 'hsv', threshold: '', device: 'auto',
        config: '', 'pixel-size': ''].asImmutable()
    private static final List<String> SCOPES = ['auto', 'selected', 'all', 'image']
    private static final Map<String, List<String>> PLACES = [model: ['keypoints', 'model'], threshold: ['keypoints', 'threshold'],
        device: ['keypoints', 'device'], palette: ['classes', 'palette']]

    final Map<String, String> values = new LinkedHashMap<>(DEFAULTS)

    static NucliSegOptions remembered(Path folder) {
        NucliSegOptions options = new NucliSegOptions()
        Map<String, Object> stored = NucliSegFiles.read(file(folder)) ?: [:]
        stored.each { String name, Object value ->
            if (DEFAULTS.containsKey(name))
                options.values.put(name, String.valueOf(value))
        }
        // A selection belongs to one image, and a pixel size too.
        if (options.values.get('scope') == 'selected')
            options.values.put('scope', 'auto')
        options.values.put('pixel-size', '')
        return options
    }

    void remember(Path folder) {
        NucliSegFiles.writeJson(file(folder), new LinkedHashMap<String, Object>(values))
    }

    /** Take arguments of the form name=value; a name with a point, such as masks.reach_um, is a setting of the engine. */
    void take(List<String> arguments) {
        for (String argument : arguments) {
            int mark = argument.indexOf('=')
            String name = mark < 0 ? argument : argument.substring(0, mark)
            if (mark < 1 || !(DEFAULTS.containsKey(name) || name ==~ /[a-z]+\.[a-z_]+/))
                throw new NucliSegProblem("the argument \"${argument}\" is not known. Known are ${DEFAULTS.keySet().join('=, ')}= and settings such as masks.reach_um=9.")
            values.put(name, argument.substring(mark + 1).trim())
        }
        check()
    }

    void check() {
        if (!SCOPES.contains(values.get('scope')))
            throw new NucliSegProblem("scope=${values.get('scope')} is not known. Take one of: ${SCOPES.join(', ')}.")
        number('pixel-size')
        number('threshold')
    }

    String text(String name) {
        return values.get(name) ?: ''
    }

    BigDecimal number(String name) {
        String text = text(name)
        if (text.isEmpty())
            return null
        try {
            return new BigDecimal(text.replace(',', '.'))
        } catch (NumberFormatException ignored) {
            throw new NucliSegProblem("${name}=${text} is not a number.")
        }
    }

    /** Settings in the engine's words. */
    Map<String, Object> settings() {
        Map<String, Object> settings = [:]
        values.each { String name, String value ->
            List<String> place = PLACES.get(name) ?: (name.contains('.') ? name.split('\\.').toList() : null)
            if (place == null || value.isEmpty())
                return
            Map<String, Object> section = (Map<String, Object>) settings.computeIfAbsent(place[0]) { String it -> [:] as Map<String, Object> }
            section.put(place[1], name == 'threshold' ? number(name) : value)
        }
        return settings
    }

    /** What to pass to get the same again. */
    List<String> arguments() {
        List<String> arguments = []
        values.each { String name, String value ->
            if (value != (DEFAULTS.get(name) ?: '') || name == 'scope')
                arguments.add(name + '=' + value)
        }
        return arguments
    }

    private static Path file(Path folder) {
        return folder.resolve('detect_settings.json')
    }
}
