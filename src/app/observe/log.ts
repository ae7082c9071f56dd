// Structured logs on standard error, written with pino. An event is a text with fields, as in
// `log.info({ origin, cluster }, 'peer up')`.
// The setting log-level is the least severe level that is written. The setting log-format chooses one JSON object for
// each line, or text for people.
import pino from 'pino'
import type { Settings } from '../settings/settings.ts'
import type { LogRing } from './log-ring.ts'

/** The logger that all parts of the agent share. */
export type Log = pino.Logger

// The second line of defence. The rule is that no secret is passed to the logger; the value of a field with one of
// these names, at the top or one level below, is replaced by "[secret]" all the same.
const SECRET_FIELDS = [
  'seed',
  'privateKey',
  'token',
  'nodeSeed',
  'clusterSeed',
  'rootSeed',
  'inviteSeed',
  'tunnelSeed'
]

// The bytes of lines that are kept while standard error takes none; further lines are dropped.
const UNWRITTEN_BYTES_MAX = 1 << 20

/**
 * Creates the logger. Errors of standard error never reach the caller: see below. `ring` gets each line, too, as JSON in
 * every format.
 */
export function createLog(
  settings: Pick<Settings, 'log-level' | 'log-format'>,
  ring?: Pick<LogRing, 'write'>
): Log {
  const options: pino.LoggerOptions = {
    level: settings['log-level'],
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level) => ({ level }) },
    serializers: { err: describeError },
    redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: '[secret]' }
  }
  const destination = pino.destination({ dest: 2, sync: true, maxLength: UNWRITTEN_BYTES_MAX })
  // A log that cannot be written (the disk is full, or the reader of the pipe has ended) is no reason to end the
  // agent. Without this listener, the error would end the process.
  destination.on('error', () => undefined)
  const wanted = settings['log-format']
  const asText = wanted === 'auto' ? process.stderr.isTTY : wanted === 'text'
  const shown = asText ? textTo(destination) : destination
  if (ring === undefined) return pino(options, shown)
  return pino(options, {
    write(line: string) {
      ring.write(line)
      shown.write(line)
    }
  })
}

/**
 * Returns a stream that turns each JSON line of pino into one line of text: time, level, message, then the other
 * fields as key=value.
 */
function textTo(destination: { write(text: string): unknown }): pino.DestinationStream {
  return {
    write(line: string) {
      const { time, level, msg, ...fields } = JSON.parse(line) as Record<string, unknown>
      const rest = Object.entries(fields).map(
        ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`
      )
      const text = `${String(time)} ${String(level).padEnd(5)} ${String(msg)}${rest.length > 0 ? `  ${rest.join(' ')}` : ''}`
      destination.write(`${oneLine(text)}\n`)
    }
  }
}

/**
 * Escapes control characters and separators of lines: names of files and texts of peers must neither start a line of
 * their own nor steer a terminal.
 */
export function oneLine(text: string): string {
  return text.replaceAll(
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  )
}

/** The form of an error in the log: message, code and fix, without its stack. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error)
  const { code, fix } = error as Error & { code?: unknown; fix?: unknown }
  return {
    message: error.message,
    ...(code === undefined ? {} : { code }),
    ...(fix === undefined ? {} : { fix })
  }
}
