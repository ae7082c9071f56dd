// The settings file, as settings.ts reads it, and the error of a setting or of this file.
// Invariant: an unknown key is an error, because a mistyped security setting must not be ignored (DESIGN §4).
import { readFileSync } from 'node:fs'
import { parse as parseYaml } from 'yaml'
import { CodedError } from '../../core/model/coded-error.ts'
import { nearest } from '../../core/model/nearest.ts'

/** A setting or the settings file is wrong. Code: BAD_SETTING, with which meshd exits with code 2. */
export class SettingsError extends CodedError<'BAD_SETTING'> {
  override readonly name = 'SettingsError'

  constructor(message: string, options: ErrorOptions & { readonly fix?: string } = {}) {
    super({ code: 'BAD_SETTING', message, fix: options.fix, cause: options.cause })
  }
}

/**
 * Reads and parses the settings file. Errors: SettingsError when it cannot be read, is not YAML or no mapping, or has
 * a key that is none of `keys`.
 */
export function readSettingsFile(path: string, keys: readonly string[]): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new SettingsError(`settings file ${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
      fix: 'name a file that this user can read with --config or RHIZOME_CONFIG'
    })
  }
  let parsed: unknown
  try {
    parsed = parseYaml(text) ?? {}
  } catch (error) {
    throw new SettingsError(`settings file ${path} is not YAML: ${(error as Error).message}`, {
      cause: error,
      fix: 'correct it there: one mapping of settings, each key once'
    })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new SettingsError(
      `settings file ${path}: expected a mapping of settings, like "wireguard-port: 51820"`,
      { fix: 'write each setting as its key, a colon, a space and its value' }
    )
  }
  for (const key of Object.keys(parsed)) {
    if (keys.includes(key)) continue
    const meant = nearest(key, keys)
    throw new SettingsError(`settings file ${path}: unknown setting ${shown(key)}`, {
      fix: `${meant === undefined ? '' : `did you mean ${meant}? `}\`meshd --help\` lists all settings`
    })
  }
  return parsed as Record<string, unknown>
}

// About one and a half lines of a terminal: an error does not repeat a whole file that was pasted into a setting.
const SHOWN_CHARACTERS_MAX = 120

/** A value in an error message, cut to SHOWN_CHARACTERS_MAX. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length <= SHOWN_CHARACTERS_MAX ? text : `${text.slice(0, SHOWN_CHARACTERS_MAX)}…`
}
