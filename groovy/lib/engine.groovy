import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.BlockingQueue
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit

// include: lib/files.groovy

/** Starts the engine as a process of its own and listens to it. */
@CompileStatic
class NucliSegEngine {

    static final int FORMAT = 1
    private static final String END = '\u0000end'
    private static final int PATIENCE_SECONDS = 3

    final List<String> command
    final boolean remote
    final Map<String, String> paths
    /** Tells whether the user gave up; asked several times a second. */
    Closure<Boolean> cancelled = { -> false }
    /** Told of every event. */
    Closure<Void> listener = { Map event -> null }

    private Process process
    private boolean greeted = false
    private Map<String, Object> result
    private Map<String, Object> failure
    private String lastWords = ''

    NucliSegEngine(Map<String, Object> place) {
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
        if (content == null)
            throw new NucliSegProblem('this project does not know where the engine is. In a terminal, run:  ' +
                "nucliseg-qp scripts install \"${folder.getParent()}\"")
        Map<String, Object> engines = (Map<String, Object>) content.get('engines') ?: [:]
        Map<String, Object> place = (Map<String, Object>) (engines.get(system()) ?: engines.get('any'))
        NucliSegEngine engine = place == null ? null : new NucliSegEngine(place)
        if (engine == null || engine.command.isEmpty())
            throw new NucliSegProblem("this project knows no engine for ${system()}. On this computer, in a terminal, run:  " +
                "nucliseg-qp scripts install \"${folder.getParent()}\"")
        return engine
    }

    static String system() {
        String name = System.getProperty('os.name').toLowerCase(Locale.ENGLISH)
        return name.contains('win') ? 'windows' : name.contains('mac') ? 'mac' : 'linux'
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
            Files.write(file, JsonOutput.toJson(asked).getBytes(StandardCharsets.UTF_8))
            arguments = ['run-request', file.toString(), '--end-with-stdin']
        }
        BlockingQueue<String> lines = start(arguments, folder)
        try {
            if (remote)
                say(JsonOutput.toJson(asked))
            listen(lines, folder)
            return checked(process.waitFor(), folder)
        } catch (InterruptedException ignored) {
            Thread.currentThread().interrupt()
            throw new NucliSegCancelled()
        } finally {
            end()
        }
    }

    /** Run the engine for a short answer, such as its version; gives exit code and what it said. */
    Map<String, Object> ask(List<String> arguments, Path folder, int seconds) {
        BlockingQueue<String> lines = start(arguments, folder)
        List<String> said = []
        try {
            long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds)
            process.getOutputStream().close()
            String line = ''
            while (line != END) {
                line = lines.poll(200, TimeUnit.MILLISECONDS)
                if (line != null && line != END)
                    said.add(line)
                if (System.nanoTime() > limit)
                    throw new NucliSegProblem("the engine did not answer within ${seconds} seconds.")
            }
            return [code: process.waitFor(), text: said.join('\n'), log: tail(folder)] as Map<String, Object>
        } finally {
            end()
        }
    }

    private BlockingQueue<String> start(List<String> arguments, Path folder) {
        ProcessBuilder builder = new ProcessBuilder(command + arguments)
        if (!remote)
            cleanEnvironment(builder.environment())
        builder.directory(folder.toFile())
        builder.redirectError(folder.resolve('engine.log').toFile())
        try {
            process = builder.start()
        } catch (IOException e) {
            throw new NucliSegProblem("the engine was not found: ${command[0]} (${e.getMessage()}). " +
                'If it was moved or removed, install it and run in a terminal:  nucliseg-qp scripts install PROJECT')
        }
        return reading(process.getInputStream())
    }

    /** The engine's environment must not be mixed with another Python's. */
    private void cleanEnvironment(Map<String, String> environment) {
        environment.remove('PYTHONHOME')
        environment.remove('PYTHONPATH')
        environment.put('PYTHONNOUSERSITE', '1')
        environment.put('PYTHONUNBUFFERED', '1')
        environment.put('PYTHONUTF8', '1')
        if (system() != 'windows')
            return
        // Libraries for the GPU lie in these folders, which activating the environment would add.
        File home = new File(command[0]).getParentFile()
        if (home == null)
            return
        String name = environment.keySet().find { String it -> it.equalsIgnoreCase('PATH') } ?: 'PATH'
        List<String> folders = [home.getPath(), new File(new File(home, 'Library'), 'bin').getPath(), new File(home, 'Scripts').getPath()]
        environment.put(name, (folders + [environment.get(name) ?: '']).join(';'))
    }

    private static BlockingQueue<String> reading(InputStream stream) {
        BlockingQueue<String> lines = new LinkedBlockingQueue<>(10000)
        Thread reader = new Thread({
            try {
                stream.eachLine('UTF-8') { String line -> lines.put(line) }
            } catch (IOException | InterruptedException ignored) {
                // The process was ended; there is nothing more to read.
                lines.clear()
            }
            lines.offer(END)
        } as Runnable, 'NucliSeg QP engine')
        reader.setDaemon(true)
        reader.start()
        return lines
    }

    private void say(String line) {
        try {
            process.getOutputStream().write((line + '\n').getBytes(StandardCharsets.UTF_8))
            process.getOutputStream().flush()
        } catch (IOException ignored) {
            // It ended at once; its exit code and its log tell why.
            lastWords = 'it closed its input'
        }
    }

    private void listen(BlockingQueue<String> lines, Path folder) {
        String line = ''
        while (line != END) {
            if (cancelled.call())
                throw new NucliSegCancelled()
            line = lines.poll(100, TimeUnit.MILLISECONDS)
            if (line != null && line != END)
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
            throw new NucliSegProblem("the engine's version ${event.get('version') ?: ''} does not fit these scripts. " +
                'Bring both up to date:  pip install -U nucliseg-qp  and  nucliseg-qp scripts install PROJECT')
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

    private static Map<String, Object> parsed(String line) {
        try {
            Object event = new JsonSlurper().parseText(line)
            if (event instanceof Map && ((Map) event).get('event') instanceof String)
                return (Map<String, Object>) event
        } catch (RuntimeException ignored) {
            // Told below, with the line itself.
            return garbled(line)
        }
        return garbled(line)
    }

    private static Map<String, Object> garbled(String line) {
        String start = line.length() > 80 ? line.substring(0, 80) + '...' : line
        throw new NucliSegProblem("the engine said something these scripts do not understand: ${start}. " +
            'Bring both up to date:  pip install -U nucliseg-qp  and  nucliseg-qp scripts install PROJECT')
    }

    private static void receive(Map<String, Object> event, Path folder) {
        Path path = folder.resolve(String.valueOf(event.get('name')))
        if (path.getParent() != folder)
            throw new NucliSegProblem("the engine named a file outside of its folder: ${event.get('name')}.")
        byte[] piece = String.valueOf(event.get('base64')).decodeBase64()
        new FileOutputStream(path.toFile(), true).withStream { OutputStream out -> out.write(piece) }
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
            throw new NucliSegProblem("the engine's result is of another version. Run in a terminal:  nucliseg-qp scripts install PROJECT")
        return manifest
    }

    private String crash(int code, Path folder) {
        String words = tail(folder)
        if (!greeted && words.contains('run-request'))
            return 'the engine is too old for these scripts. Bring it up to date:  pip install -U nucliseg-qp'
        if (!greeted && words.contains('No module named'))
            return "${command[0]} has no nucliseg-qp. Install it there (pip install nucliseg-qp) or name another one:  " +
                'nucliseg-qp scripts install PROJECT --engine FOLDER'
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
        String path = builder.get('uri') == null ? null : new URI((String) builder.get('uri')).getPath()
        String here = paths.keySet().find { String it -> path != null && path.startsWith(it) }
        if (here != null)
            builder.put('uri', new URI('file', '', paths.get(here) + path.substring(here.length()), null).toString())
        Map<String, Object> there = new LinkedHashMap<String, Object>(image)
        there.put('builder', builder)
        return there
    }

    /** End the process and all that it started, politely first. */
    void end() {
        if (process == null)
            return
        List<ProcessHandle> all = [process.toHandle()]
        process.descendants().forEach { ProcessHandle it -> all.add(it) }
        try {
            process.getOutputStream().close()
        } catch (IOException ignored) {
            // It is gone already.
            all.each { ProcessHandle it -> it.destroy() }
        }
        boolean interrupted = Thread.interrupted()
        all.each { ProcessHandle it -> it.destroy() }
        interrupted = waitFor(all) || interrupted
        all.each { ProcessHandle it -> it.destroyForcibly() }
        interrupted = waitFor(all) || interrupted
        if (interrupted)
            Thread.currentThread().interrupt()
    }

    /** Wait a little for processes to end; tells whether somebody interrupted the wait. */
    private static boolean waitFor(List<ProcessHandle> all) {
        boolean interrupted = false
        long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS)
        while (all.any { ProcessHandle it -> it.isAlive() } && System.nanoTime() < limit)
            interrupted = pause() || interrupted
        return interrupted
    }

    private static boolean pause() {
        try {
            Thread.sleep(20)
            return false
        } catch (InterruptedException ignored) {
            return true
        }
    }
}
