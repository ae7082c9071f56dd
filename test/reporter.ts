// A dot for each test, as mocha's own reporter prints it, and each failure at once: a group of tests may run for many minutes, and one that is ended
// prints no list of failures. At the end come the files that took longest: the slowest group decides how long a run takes.
// RHIZOME_FAILED_FILES names a file that then gets the paths of the test files with failures, one in a line (test/run reads it), and of those with tests
// that did not run: mocha leaves a suite with `bail` out once any other test has failed.
import { writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import mocha from 'mocha'

const { EVENT_RUN_END, EVENT_SUITE_BEGIN, EVENT_SUITE_END, EVENT_TEST_FAIL } = mocha.Runner.constants
const LONGEST = 8
const LONG_MS = 10_000

export default class Reporter extends mocha.reporters.Dot {
  constructor(runner: mocha.Runner, options: mocha.MochaOptions) {
    super(runner, options)
    const failed = new Set<string>()
    runner.on(EVENT_TEST_FAIL, (test, error: Error) => {
      failed.add(relative(process.cwd(), test.file ?? 'unknown'))
      process.stdout.write(`\n  failed: ${test.fullTitle()}: ${error.message}\n`)
    })
    const beganMs = new Map<mocha.Suite, number>()
    const tookMs = new Map<string, number>()
    const isOfFile = (suite: mocha.Suite): boolean => suite.parent?.root === true
    runner.on(EVENT_SUITE_BEGIN, (suite) => {
      if (isOfFile(suite)) beganMs.set(suite, performance.now())
    })
    runner.on(EVENT_SUITE_END, (suite) => {
      const began = beganMs.get(suite)
      if (began === undefined) return
      const file = relative(process.cwd(), suite.file ?? '')
      tookMs.set(file, (tookMs.get(file) ?? 0) + performance.now() - began)
    })
    runner.on(EVENT_RUN_END, () => {
      const list = process.env['RHIZOME_FAILED_FILES']
      if (list === undefined || failed.size === 0) return
      runner.suite.eachTest((test: mocha.Test) => {
        if (test.state === undefined) failed.add(relative(process.cwd(), test.file ?? 'unknown'))
      })
      writeFileSync(list, [...failed, ''].join('\n'))
    })
    runner.on(EVENT_RUN_END, () => {
      const long = [...tookMs].filter(([, ms]) => ms >= LONG_MS).toSorted(([, a], [, b]) => b - a)
      const lines = long
        .slice(0, LONGEST)
        .map(([file, ms]) => `  ${String(Math.round(ms / 1000)).padStart(5)} s  ${file}\n`)
      if (lines.length > 0) process.stdout.write(`  the longest files:\n${lines.join('')}\n`)
    })
  }
}
