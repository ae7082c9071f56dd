// The version of meshctl, for --version, the command `version` and its answer as JSON. build/bundle.ts replaces the
// name RHIZOME_VERSION by the text of the version. A program that runs from source has no such name and reads
// package.json.
import { readFileSync } from 'node:fs'

// `typeof` is the only expression that does not throw a ReferenceError for a name that does not exist.
declare const RHIZOME_VERSION: string | undefined

/** Whether this program runs from dist/ and not from source. Files beside the program then have other paths. */
export function isBundled(): boolean {
  return typeof RHIZOME_VERSION === 'string'
}

/** Returns the version, such as "0.1.0", "0.1.0+v0.1.0-3-g4fd333d" between releases, or "0.1.0+source" from source. */
export function release(): string {
  if (typeof RHIZOME_VERSION === 'string') return RHIZOME_VERSION
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  const { version } = JSON.parse(text)
  return `${String(version)}+source`
}
