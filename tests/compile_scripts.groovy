/*
 * Compiles scripts to the end and prints what is wrong with them; test_groovy.py runs it with several Groovy versions.
 *
 * Needs no QuPath: of the classes that a script imports from it only the names are there, so calls are not
 * checked (the tests with QuPath do that), but everything that the language itself forbids is found.
 *
 * Arguments: the scripts.
 */
import org.codehaus.groovy.control.CompilationFailedException
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.Phases

/** Give a class for each one of QuPath's and its libraries that is imported and not here: its name and the names in it. */
Map<String, String> stubs(String text) {
    Map<String, List<String>> wanted = [:].withDefault { [] }
    (text =~ /(?m)^import (static )?([\w.]+)$/).each { whole, isStatic, name ->
        String type = isStatic ? name[0..<name.lastIndexOf('.')] : name
        List<String> members = wanted[type]
        if (isStatic)
            members << "static Object ${name.tokenize('.').last()}(Object... it) { null }"
    }
    return wanted.findAll { type, members -> !(type =~ /^(javax?|groovy)\./) && !isHere(type) }.collectEntries { type, members ->
        String name = type.tokenize('.').last()
        List<String> inner = (text =~ /\b${name}\.([A-Z]\w*[a-z]\w*)\b/).collect { it[1] }.unique()
        String body = (members + inner.collect { "static class ${it} { }" }).join('\n')
        [type, "package ${type[0..<type.lastIndexOf('.')]}\nclass ${name} {\n${body}\n}\n"]
    }
}

boolean isHere(String type) {
    try {
        return Class.forName(type, false, this.class.classLoader) != null
    } catch (ClassNotFoundException ignored) {
        return false
    }
}

println "groovy ${GroovySystem.version}"
for (String path : args) {
    String text = new File(path).getText('UTF-8')
    // Static types need QuPath's own classes.
    String dynamic = text.replaceAll(/(?m)^(import groovy\.transform\.(CompileStatic|TypeChecked\w*)|@(CompileStatic|TypeChecked)\b.*)$/, '')
    def unit = new CompilationUnit(new CompilerConfiguration(), null, new GroovyClassLoader(this.class.classLoader))
    stubs(dynamic).each { type, source -> unit.addSource("${type}.groovy", source) }
    unit.addSource(path, dynamic)
    try {
        unit.compile(Phases.CLASS_GENERATION)
        println "ok ${path}"
    } catch (CompilationFailedException problem) {
        println "PROBLEM ${path}\n${problem.message}"
    }
}
