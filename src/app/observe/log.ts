// Structured logs on standard error: an event with fields, `log.info({ origin, cluster }, 'peer up')`.
import pino from 'pino'
import type { Settings } from '../settings/settings.ts'

export type Log = pino.Logger

// A second net under "never log a secret": fields of these names are cut wherever they turn up.
const SECRET_FIELDS = [
  'seed',
  'privateKey',
  'token',
  'nodeSeed',
  'clusterSeed',
  'rootSeed',
  'inviteSeed',
  'wireguardPrivateKey'
]

// What waits for a log that takes nothing; the rest is dropped.
const UNWRITTEN_BYTES_MAX = 1 << 20

export function createLog(settings: Pick<Settings, 'log-level' | 'log-format'>): Log {
  const options: pino.LoggerOptions = {
    level: settings['log-level'],
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level) => ({ level }) },
    serializers: { err: describeError },
    redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: '[secret]' }
  }
  const destination = pino.destination({ dest: 2, sync: true, maxLength: UNWRITTEN_BYTES_MAX })
  // A log that cannot be written (a full disk, a reader that has gone) is no reason to end: it goes on once it can.
  destination.on('error', () => undefined)
  const wanted = settings['log-format']
  const asText = wanted === 'auto' ? process.stderr.isTTY : wanted === 'text'
  return asText ? pino(options, textTo(destination)) : pino(options, destination)
}

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

/** Names of files and texts of peers must neither begin a line of their own nor steer a terminal. */
function oneLine(text: string): string {
  return text.replaceAll(
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  )
}

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error)
  const { code, fix } = error as Error & { code?: unknown; fix?: unknown }
  return {
    message: error.message,
    ...(code === undefined ? {} : { code }),
    ...(fix === undefined ? {} : { fix })
  }
}
