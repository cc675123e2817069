import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.TimeUnit

// include: lib/files.groovy
// include: lib/json.groovy
// include: lib/process.groovy

/** Starts the engine and listens to it. */
@CompileStatic
class NucliSegEngine {

    static final int FORMAT = 1

    final List<String> command
    final boolean remote
    final Map<String, String> paths
    /** Tells whether the user gave up; asked several times a second. */
    Closure<Boolean> cancelled = { -> false }
    /** Told of every event. */
    Closure<Void> listener = { Map event -> null }

    /** What to type to put the engine right. */
    final String install
    private NucliSegProcess process
    private boolean greeted = false
    private Map<String, Object> result
    private Map<String, Object> failure
    private String lastWords = ''

    NucliSegEngine(Map<String, Object> place, String install) {
        this.install = install
        command = [] as List<String>
        for (Object it : (List) place.get('command') ?: [])
            command.add(String.valueOf(it))
        remote = place.get('remote') == true
        paths = [:] as Map<String, String>
        ((Map<Object, Object>) place.get('paths') ?: [:]).each { Object here, Object there ->
            paths.put(String.valueOf(here), String.valueOf(there))
        }
    }

    /** Find the engine that "nucliseg-qp scripts install" wrote down for this system. */
    static NucliSegEngine find(Path folder) {
        Map<String, Object> content = NucliSegFiles.read(folder.resolve('engine.json'))
        String install = "nucliseg-qp scripts install \"${folder.getParent()}\""
        if (content == null)
            throw new NucliSegProblem("this project does not know where the engine is. In a terminal, run:  ${install}")
        String system = NucliSegProcess.system()
        Map<String, Object> engines = (Map<String, Object>) content.get('engines') ?: [:]
        Map<String, Object> place = (Map<String, Object>) (engines.get(system) ?: engines.get('any'))
        NucliSegEngine engine = place == null ? null : new NucliSegEngine(place, install)
        if (engine == null || engine.command.isEmpty())
            throw new NucliSegProblem("this project knows no engine for ${system}. On this computer, in a terminal, run:  ${install}")
        return engine
    }

    /** Run the engine for one image; gives what result.json holds. Ends the process whatever happens. */
    Map<String, Object> analyse(Map<String, Object> request, Path folder) {
        Map<String, Object> asked = translated(request)
        List<String> arguments
        if (remote) {
            arguments = ['run-request', '-', '--end-with-stdin']
        } else {
            asked.put('output', folder.toString())
            Path file = folder.resolve('request.json')
            Files.write(file, NucliSegJson.write(asked).getBytes(StandardCharsets.UTF_8))
            arguments = ['run-request', file.toString(), '--end-with-stdin']
        }
        process = start(arguments, folder)
        try {
            // When it ended at once, its exit code and its log tell why.
            if (remote && !process.say(NucliSegJson.write(asked)))
                lastWords = 'it closed its input'
            listen(folder)
            return checked(process.waitFor(), folder)
        } catch (InterruptedException ignored) {
            Thread.currentThread().interrupt()
            throw new NucliSegCancelled()
        } finally {
            process.end()
        }
    }

    /** Run the engine for a short answer, such as its version; gives exit code and what it said. */
    Map<String, Object> ask(List<String> arguments, Path folder, int seconds) {
        process = start(arguments, folder)
        List<String> said = []
        try {
            long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds)
            process.closeInput()
            String line = ''
            while (line != NucliSegProcess.END) {
                line = process.line(200)
                if (line != null && line != NucliSegProcess.END)
                    said.add(line)
                if (System.nanoTime() > limit)
                    throw new NucliSegProblem("the engine did not answer within ${seconds} seconds. Run it once in a terminal to see why:  ${command.join(' ')} ${arguments.join(' ')}")
            }
            return [code: process.waitFor(), text: said.join('\n'), log: tail(folder)] as Map<String, Object>
        } finally {
            process.end()
        }
    }

    private NucliSegProcess start(List<String> arguments, Path folder) {
        String program = located(command[0])
        try {
            return new NucliSegProcess([program] + command.drop(1) + arguments, folder, folder.resolve('engine.log'), !remote)
        } catch (IOException e) {
            String why = new File(program).exists() ? "could not be started (${e.getMessage()})" : 'was not found'
            throw new NucliSegProblem("the engine ${program} ${why}. Install it if it was removed, then run in a terminal:  ${install}")
        }
    }

    /** On Windows the python of a venv lies one folder deeper than that of a conda environment. */
    private static String located(String program) {
        File place = new File(program)
        File deeper = new File(new File(place.getParentFile(), 'Scripts'), place.getName())
        return !place.exists() && deeper.exists() ? deeper.getPath() : program
    }

    private void listen(Path folder) {
        String line = ''
        while (line != NucliSegProcess.END) {
            if (cancelled.call())
                throw new NucliSegCancelled()
            line = process.line(100)
            if (line != null && line != NucliSegProcess.END)
                hear(line, folder)
        }
    }

    private void hear(String line, Path folder) {
        if (!line.startsWith('{')) {
            lastWords = line.trim() ?: lastWords
            return
        }
        Map<String, Object> event = parsed(line)
        String kind = event.get('event')
        if (!greeted && (kind != 'hello' || event.get('format') != FORMAT))
            throw new NucliSegProblem("the engine's version ${event.get('version') ?: ''} does not fit these scripts. ${renew()}")
        greeted = true
        if (kind == 'file')
            receive(event, folder)
        else if (kind == 'result')
            result = event
        else if (kind == 'error')
            failure = event
        else
            listener.call(event)
    }

    private Map<String, Object> parsed(String line) {
        try {
            Object event = NucliSegJson.read(line)
            if (event instanceof Map && ((Map) event).get('event') instanceof String)
                return (Map<String, Object>) event
        } catch (RuntimeException ignored) {
            // Told below, with the line itself.
            return garbled(line)
        }
        return garbled(line)
    }

    private Map<String, Object> garbled(String line) {
        String start = line.length() > 80 ? line.substring(0, 80) + '...' : line
        throw new NucliSegProblem("the engine said something these scripts do not understand: ${start}. ${renew()}")
    }

    private String renew() {
        return "Bring both up to date:  pip install -U nucliseg-qp  and  ${install}"
    }

    private static void receive(Map<String, Object> event, Path folder) {
        Path path = folder.resolve(String.valueOf(event.get('name')))
        if (path.getParent() != folder)
            throw new NucliSegProblem("the engine named a file outside of its folder: ${event.get('name')}.")
        try {
            byte[] piece = Base64.getDecoder().decode(String.valueOf(event.get('base64')))
            new FileOutputStream(path.toFile(), true).withStream { OutputStream out -> out.write(piece) }
        } catch (IllegalArgumentException e) {
            throw new NucliSegProblem("${event.get('name')} came damaged from the engine (${e.getMessage()}). Run again.")
        }
    }

    private Map<String, Object> checked(int code, Path folder) {
        if (failure != null)
            throw new NucliSegProblem([failure.get('message'), failure.get('hint')].findAll().join('. '))
        if (code != 0)
            throw new NucliSegProblem(crash(code, folder))
        Map<String, Object> manifest = result == null ? null : NucliSegFiles.read(folder.resolve('result.json'))
        if (manifest == null)
            throw new NucliSegProblem('the engine ended without a whole result. Run again; if it happens again, run check_installation.')
        if (manifest.get('format') != FORMAT)
            throw new NucliSegProblem("the engine's result is of another version. ${renew()}")
        return manifest
    }

    /** The path of a file as URIs write it: /C:/slides and //server/slides on Windows. */
    private static String place(URI uri) {
        return uri.getAuthority() == null ? uri.getPath() : '//' + uri.getAuthority() + uri.getPath()
    }

    private static String slashed(String path) {
        String slashed = path.replace('\\', '/')
        return slashed ==~ /[A-Za-z]:.*/ ? '/' + slashed : slashed
    }

    private String crash(int code, Path folder) {
        String words = tail(folder)
        if (!greeted && words.contains('run-request'))
            return 'the engine is too old for these scripts. Bring it up to date:  pip install -U nucliseg-qp'
        if (!greeted && words.contains('No module named'))
            return "${command[0]} has no nucliseg-qp. Install it there (pip install nucliseg-qp) or name another one:  ${install} --engine FOLDER"
        String why = code == 137 || code == 9 || code == -9 ? 'The system ended it, most often because memory ran out: close other programs or choose a smaller area. ' : ''
        return "the engine stopped in the middle (exit code ${code}). ${why}Its last words: ${words ?: 'none'}"
    }

    private String tail(Path folder) {
        Path log = folder.resolve('engine.log')
        List<String> lines = Files.exists(log) ? new String(Files.readAllBytes(log), StandardCharsets.UTF_8).trim().readLines() : []
        String words = lines.isEmpty() ? lastWords : lines.last()
        return words.length() > 300 ? words.substring(0, 300) : words
    }

    /** On another computer a folder with images may have another name. */
    private Map<String, Object> translated(Map<String, Object> request) {
        Map<String, Object> asked = new LinkedHashMap<String, Object>(request)
        if (!paths.isEmpty())
            asked.put('image', translated((Map<String, Object>) request.get('image'), paths))
        return asked
    }

    private static Map<String, Object> translated(Map<String, Object> image, Map<String, String> paths) {
        Map<String, Object> builder = new LinkedHashMap<String, Object>((Map<String, Object>) image.get('builder'))
        String path = builder.get('uri') == null ? null : place(new URI((String) builder.get('uri')))
        Map.Entry<String, String> mapped = paths.find { Map.Entry<String, String> it -> path != null && path.startsWith(slashed(it.key)) }
        if (mapped != null)
            builder.put('uri', new URI('file', '', mapped.value + path.substring(slashed(mapped.key).length()), null).toString())
        Map<String, Object> there = new LinkedHashMap<String, Object>(image)
        there.put('builder', builder)
        return there
    }
}
