// The programs as they are shipped, built once for a run of tests. A child process that is a program of ours starts from dist/: the same start from src/
// reads and strips some hundred files of their types, which takes four times as much of the processor for meshctl, and eight times for meshd.
import { execFileSync } from 'node:child_process'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')

export const MESHCTL = join(ROOT, 'dist/meshctl.js')
export const MESHD = join(ROOT, 'dist/meshd.js')

// test/run and `make unit` have built it.
let built = process.env['DIST_IS_BUILT'] === '1'

/** dist/ as the tree is now, once a run. For the hook `before` of what starts the programs. */
export function build(): void {
  if (built) return
  execFileSync(process.execPath, [join(ROOT, 'build/bundle.ts')], { stdio: ['ignore', 'ignore', 'inherit'] })
  built = true
}
