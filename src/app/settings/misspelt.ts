// Finds environment variables that look like a misspelt setting.
import { nearest } from '../../core/model/nearest.ts'
import { envOf, SETTINGS } from './settings.ts'

// RHIZOME_CONFIG names the settings file of meshd; `meshctl join` reads RHIZOME_TOKEN.
const OTHER_ENVIRONMENT = new Set(['RHIZOME_CONFIG', 'RHIZOME_TOKEN'])
// Variables that Kubernetes sets in each pod of the namespace for a Service whose name begins with rhizome-.
const OF_KUBERNETES = /_(SERVICE_(HOST|PORT)|PORT)(_|$)/

/**
 * Returns environment variables that look like a misspelt setting, and the variable that was probably meant. The caller
 * logs a warning. This is no error, unlike an unknown key of the file, because other programs may have variables that
 * begin with RHIZOME_.
 */
export function misspeltEnvironment(
  env: Readonly<Record<string, string | undefined>>
): readonly { readonly name: string; readonly meant: string }[] {
  const known = Object.keys(SETTINGS).map(envOf)
  return Object.keys(env).flatMap((name) => {
    if (!name.startsWith('RHIZOME_') || known.includes(name)) return []
    if (OTHER_ENVIRONMENT.has(name) || OF_KUBERNETES.test(name)) return []
    const meant = nearest(name, known)
    return meant === undefined ? [] : [{ name, meant }]
  })
}
