// The version of this program. The bundler puts it in (build/bundle.ts); run from source it is that of package.json.
import { readFileSync } from 'node:fs'

declare const RHIZOME_VERSION: string | undefined

/** Whether this runs from dist/ and not from source. */
export function isBundled(): boolean {
  return typeof RHIZOME_VERSION === 'string'
}

export function release(): string {
  if (typeof RHIZOME_VERSION === 'string') return RHIZOME_VERSION
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  const { version } = JSON.parse(text)
  return `${String(version)}+source`
}
