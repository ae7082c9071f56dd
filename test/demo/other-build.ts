// A build of the same sources that has another version: what an upgrade in place starts, and a downgrade ends.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '../..')

/**
 * Makes the build below `folder`, and returns the wrapper with which `Site.startUnder` starts its meshd in the place of that of
 * this tree.
 */
export function otherBuild(folder: string): readonly string[] {
  const root = join(folder, 'other-build')
  mkdirSync(root)
  for (const name of ['bin', 'dist']) cpSync(join(ROOT, name), join(root, name), { recursive: true })
  for (const name of ['node_modules', 'package.json']) symlinkSync(join(ROOT, name), join(root, name))
  const before = versionOf(ROOT)
  for (const entry of readdirSync(join(root, 'dist'), { recursive: true, withFileTypes: true })) {
    if (!entry.name.endsWith('.js')) continue
    const file = join(entry.parentPath, entry.name)
    const text = readFileSync(file, 'utf8')
    const changed = text.replaceAll(`"${before}"`, `"${before}.other"`)
    if (changed !== text) writeFileSync(file, changed)
  }
  if (versionOf(root) === before) throw new Error(`the copy still has the version ${before}`)
  // The word after the program is the meshd of this tree, which is not started.
  return ['sh', '-c', 'shift; exec "$0" "$@"', join(root, 'bin/meshd')]
}

function versionOf(root: string): string {
  return execFileSync(join(root, 'bin/meshd'), ['--version'], { encoding: 'utf8' }).trim()
}
