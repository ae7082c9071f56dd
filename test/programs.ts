// The programs that tests start as child processes. test/run has built each of them as one file of JavaScript (build/test-programs.ts), because a
// start from TypeScript reads and strips a hundred files each time: 0.4 s of a processor instead of 0.1 s, and on the translated
// processor of the guest 30 s instead of 3 s. A test file that runs alone starts them from their sources; they are the same programs.
import { resolve } from 'node:path'

const SOURCES = resolve(import.meta.dirname)

export type TestProgram =
  | 'demo/pod'
  | 'lab/guest/*.inside'
  | 'lab/guest/without-ipv6'
  | 'lab/support/held-connections'
  | 'lab/support/host-process'
  | 'lab/support/lb-traffic'
  | 'lab/support/short-connections'
  | 'lab/support/slow-path'
  | 'maelstrom/main'

/** The folder that test/run names. Not for `make coverage`: what of the sources a bundle runs cannot be counted. */
export const PROGRAMS =
  process.env['NODE_V8_COVERAGE'] === undefined ? process.env['RHIZOME_TEST_PROGRAMS'] : undefined

/** The file that Node runs, or the pattern of several. */
export function testProgram(name: TestProgram): string {
  return PROGRAMS === undefined ? `${SOURCES}/${name}.ts` : `${PROGRAMS}/${name}.js`
}
