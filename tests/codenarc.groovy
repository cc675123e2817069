/*
 * CodeNarc's rules that find bugs; those on taste and those that err on typed classes are left out.
 */
ruleset {
    ruleset('rulesets/basic.xml') {
        exclude 'ClassForName' // QuPath's window is looked up by name
    }
    ruleset('rulesets/concurrency.xml')
    ruleset('rulesets/serialization.xml')
    ruleset('rulesets/logging.xml') {
        exclude 'Println' // a script talks through println, QuPath shows it
    }
    ruleset('rulesets/exceptions.xml') {
        exclude 'CatchRuntimeException' // JSON and GeoJSON readers throw them for broken files
        exclude 'ReturnNullFromCatchBlock' // null means: no window
    }
    ruleset('rulesets/groovyism.xml') {
        exclude 'ExplicitHashMapInstantiation' // "[:]" is a LinkedHashMap, with static types too
        exclude 'ExplicitLinkedHashMapInstantiation'
        exclude 'ExplicitHashSetInstantiation'
    }
    ruleset('rulesets/imports.xml') {
        exclude 'MisorderedStaticImports'
    }
    ruleset('rulesets/unused.xml') {
        exclude 'UnusedPrivateMethod' // does not see calls on another object of the same class
    }
    ruleset('rulesets/generic.xml')
}
