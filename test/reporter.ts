// A dot for each test, as mocha's own reporter prints it, and each failure at once: a group of tests may run for many minutes, and one that is ended
// prints no list of failures.
import mocha from 'mocha'

export default class Reporter extends mocha.reporters.Dot {
  constructor(runner: mocha.Runner, options: mocha.MochaOptions) {
    super(runner, options)
    runner.on(mocha.Runner.constants.EVENT_TEST_FAIL, (test, error: Error) => {
      process.stdout.write(`\n  failed: ${test.fullTitle()}: ${error.message}\n`)
    })
  }
}
