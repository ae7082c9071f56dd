// A message of Maelstrom's protocol: one JSON object a line.

export interface Message {
  readonly src: string
  readonly dest: string
  readonly body: Body
}

export interface Body {
  readonly type: string
  readonly msg_id?: number
  readonly in_reply_to?: number
  readonly [field: string]: unknown
}

/** Errors: SyntaxError or TypeError; Maelstrom is no peer, its bytes are not hostile. */
export function parseMessage(line: string): Message {
  const message: unknown = JSON.parse(line)
  if (!isMessage(message)) throw new TypeError(`not a message: ${line.slice(0, 200)}`)
  return message
}

function isMessage(value: unknown): value is Message {
  if (typeof value !== 'object' || value === null) return false
  if (!('src' in value && 'dest' in value && 'body' in value)) return false
  const { src, dest, body } = value
  if (typeof src !== 'string' || typeof dest !== 'string') return false
  return typeof body === 'object' && body !== null && 'type' in body && typeof body.type === 'string'
}
