// The programs as they are shipped, built once for a run of tests. A child process that is a program of ours starts from dist/: the same start from src/
// reads and strips some hundred files of their types, which takes four times as much of the processor for meshctl, and eight times for meshd.
import { execFileSync } from 'node:child_process'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')

/** As shipped, whatever is measured. */
export const SHIPPED = { meshctl: join(ROOT, 'dist/meshctl.js'), meshd: join(ROOT, 'dist/meshd.js') }

// What of the sources a bundle runs cannot be counted.
const isCounted = process.env['NODE_V8_COVERAGE'] !== undefined
export const MESHCTL = isCounted ? join(ROOT, 'src/cli/main.ts') : SHIPPED.meshctl
export const MESHD = isCounted ? join(ROOT, 'src/app/main.ts') : SHIPPED.meshd

// test/run and `make unit` have built it.
let built = process.env['DIST_IS_BUILT'] === '1'

/** dist/ as the tree is now, once a run. For the hook `before` of what starts the programs. */
export function build(): void {
  if (built) return
  execFileSync(process.execPath, [join(ROOT, 'build/bundle.ts')], { stdio: ['ignore', 'ignore', 'inherit'] })
  built = true
}
