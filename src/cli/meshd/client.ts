// The client of the admin API: one HTTP request to meshd over its unix socket, without a retry. Each row of
// src/api/endpoints.ts gives the method, the path and the types. The client checks the version and the outer form of
// every answer, and turns every failure into a CliError with a fix, because a wrong socket is the most frequent first
// mistake.
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { codeOf } from '../../core/model/coded-error.ts'
import { API_VERSION, type Answer } from '../../api/answers.ts'
import type { Endpoint } from '../../api/endpoints.ts'
import { CliError } from '../output/errors.ts'
import { showProgress } from '../output/progress.ts'

/** The admin API of one meshd. It holds no connection between requests, so there is nothing to close. */
export interface Client {
  /** The path of the unix socket. */
  readonly socket: string
  /**
   * Sends a request and resolves to its answer. Errors: CliError AGENT_UNREACHABLE; TIMEOUT; INCOMPATIBLE when the
   * answer has another API version; BAD_ANSWER when the server is not meshd; INTERRUPTED when `signal` was aborted; or
   * the code that meshd gave in its ErrorAnswer, such as NOT_JOINED.
   */
  request<S extends object, A extends Answer>(
    endpoint: Endpoint<S, A>,
    call: Call<NoInfer<S>, NoInfer<A>>
  ): Promise<A>
}

/** One call of `request`: the options, and in `send` the request of the endpoint. */
type Call<S extends object, A extends Answer> = CallOptions<A> & Sending<S>

/** The field `send` has the endpoint's request. It may be left out when the request has no field that must be given. */
type Sending<S extends object> =
  Record<string, never> extends S ? { readonly send?: S } : { readonly send: S }

interface CallOptions<A extends Answer> {
  /** A field that every valid answer has. An answer without it is a BAD_ANSWER. */
  readonly field: keyof A & string
  /** The text for the progress line after one second, and for TIMEOUT: "waiting for a member to answer". */
  readonly doing: string
  /** The longest wait for the whole answer, in milliseconds; default 10,000. --timeout wins over it. */
  readonly timeoutMs?: number
  /** Ends the request with INTERRUPTED. A call with a signal shows no progress line. */
  readonly signal?: AbortSignal
}

/** The options that hold for every request of a client. */
interface ClientOptions {
  readonly socket: string
  /**
   * The value of --timeout in milliseconds, which wins over that of a request; undefined when the flag is not given.
   */
  readonly timeoutMs: number | undefined
  /** Whether to show progress on stderr. */
  readonly progress: boolean
}

// meshd answers from memory within milliseconds, or reads the kernel. init, join and leave take longer and give their
// own time.
const TIMEOUT_MS = 10_000
// 100,000 services at about 300 bytes are 30 MB, so a larger answer does not come from meshd.
const ANSWER_BYTES_MAX = 256 * 1024 * 1024

/**
 * Returns a client. It does not connect before the first request. context.ts makes one per run, complete.ts one per
 * Tab.
 */
export function createClient(options: ClientOptions): Client {
  return {
    socket: options.socket,
    async request(endpoint, call) {
      const timeoutMs = options.timeoutMs ?? call.timeoutMs ?? TIMEOUT_MS
      // A caller with a signal draws the screen and handles Ctrl-C itself.
      const quiet = !options.progress || call.signal !== undefined
      const done = quiet ? () => {} : showProgress(call.doing, timeoutMs)
      try {
        return await exchange(options.socket, { endpoint, ...call, timeoutMs })
      } finally {
        done()
      }
    }
  }
}

interface Request<A extends Answer> extends CallOptions<A> {
  readonly endpoint: Pick<Endpoint<never, A>, 'method' | 'path'>
  readonly send?: object
  readonly timeoutMs: number
}

/**
 * One request and its answer. An abort makes the request fail with an error of its own, so the cause is looked for in
 * this order: the deadline, the caller's signal, the connection.
 */
async function exchange<A extends Answer>(socket: string, request: Request<A>): Promise<A> {
  const { timeoutMs } = request
  const deadline = AbortSignal.timeout(timeoutMs)
  const signal = request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal])
  try {
    const response = await send(socket, request, signal)
    return check(socket, request, response, await readJson(socket, response))
  } catch (error) {
    if (error instanceof CliError) throw error
    if (deadline.aborted) throw timedOut(socket, request.doing, timeoutMs, error)
    if (request.signal?.aborted === true) {
      throw new CliError('INTERRUPTED', 'interrupted', undefined, { cause: error })
    }
    throw unreachable(socket, error)
  }
}

/**
 * Sends the request and resolves at the head of the response; the body is still to be read. Rejects with Node's error.
 */
function send(
  socket: string,
  { endpoint: { method, path }, send: sent = {} }: Pick<Request<Answer>, 'endpoint' | 'send'>,
  signal: AbortSignal
): Promise<IncomingMessage> {
  const body = method === 'POST' ? JSON.stringify(sent) : undefined
  const query = method === 'POST' ? '' : new URLSearchParams({ ...sent }).toString()
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({
      socketPath: socket,
      method,
      path: query === '' ? path : `${path}?${query}`,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      // A connection of its own: a kept one would stay open and keep meshctl from ending.
      agent: false,
      signal
    })
    outgoing.once('response', resolve)
    outgoing.once('error', reject)
    outgoing.end(body)
  })
}

/** Reads the body. Errors: CliError BAD_ANSWER when it is too long or not JSON, and Node's errors of the connection. */
async function readJson(socket: string, response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ANSWER_BYTES_MAX) throw badAnswer(socket, `an answer of over ${ANSWER_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch (error) {
    throw badAnswer(socket, 'an answer that is not JSON', error)
  }
}

/**
 * Returns the answer, or throws. The version is checked first: the form of an ErrorAnswer is only known for this
 * version. An ErrorAnswer becomes a CliError with its own code, with any HTTP status.
 */
function check<A extends Answer>(
  socket: string,
  request: Pick<Request<A>, 'field'>,
  response: IncomingMessage,
  json: unknown
): A {
  const answer = isObject(json) ? json : {}
  checkVersion(socket, answer['apiVersion'])
  const { error } = answer
  if (isObject(error)) {
    const { code, message, fix } = error
    throw new CliError(String(code), String(message), typeof fix === 'string' ? fix : undefined)
  }
  if (response.statusCode !== 200 || !isAnswer<A>(answer, request.field)) {
    throw badAnswer(socket, `status ${response.statusCode} without the field "${request.field}"`)
  }
  return answer
}

/** Only the version and one field are checked, because both ends are compiled with src/api/answers.ts. */
function isAnswer<A extends Answer>(answer: object, field: keyof A & string): answer is A {
  return Object.hasOwn(answer, field)
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Errors: CliError INCOMPATIBLE with the side to upgrade, or BAD_ANSWER when the field is not a version of rhizome.io.
 */
function checkVersion(socket: string, version: unknown): void {
  if (version === API_VERSION) return
  const theirs = /^rhizome\.io\/v(\d{1,6})$/.exec(String(version))?.[1]
  if (theirs === undefined) throw badAnswer(socket, 'an answer without an apiVersion of rhizome.io')
  const ours = Number(API_VERSION.slice(API_VERSION.lastIndexOf('v') + 1))
  throw new CliError(
    'INCOMPATIBLE',
    `meshd on ${socket} speaks the API rhizome.io/v${theirs}, this meshctl speaks ${API_VERSION}`,
    Number(theirs) > ours
      ? 'upgrade meshctl to the version of meshd'
      : 'upgrade meshd to the version of meshctl, and restart it'
  )
}

function badAnswer(socket: string, what: string, cause?: unknown): CliError {
  return new CliError(
    'BAD_ANSWER',
    `${socket} gave ${what}: the server there is not meshd, or has another version`,
    'check --socket (or RHIZOME_SOCKET), and compare with `meshd --version`',
    { cause }
  )
}

function timedOut(socket: string, doing: string, timeoutMs: number, cause: unknown): CliError {
  return new CliError(
    'TIMEOUT',
    `meshd on ${socket} did not answer within ${timeoutMs / 1000} s (${doing})`,
    'read the log of meshd, or allow more time with --timeout 2m',
    { cause }
  )
}

function unreachable(socket: string, error: unknown): CliError {
  const [problem, fix] = reasonOf(socket, error)
  return new CliError('AGENT_UNREACHABLE', `cannot reach meshd on ${socket}: ${problem}`, fix, {
    cause: error
  })
}

/** Returns the problem and the fix for an errno of connect(2) (see unix(7)) or for another error of the connection. */
function reasonOf(socket: string, error: unknown): readonly [problem: string, fix: string] {
  switch (codeOf(error) ?? '') {
    case 'ENOENT':
      return [
        'there is no such socket',
        'start meshd on this host, or name its socket with --socket PATH or RHIZOME_SOCKET'
      ]
    case 'ECONNREFUSED':
      return [
        'no process listens there (meshd has stopped)',
        'start meshd again, and read in its log why it stopped'
      ]
    case 'EACCES':
    case 'EPERM':
      return ['permission denied', `use sudo, or run as the user that runs meshd (ls -l ${socket})`]
    case 'ENOTSOCK':
    case 'ENOTDIR':
      return ['this is not a socket', 'name the socket of meshd with --socket PATH or RHIZOME_SOCKET']
    case 'ECONNRESET':
    case 'EPIPE':
      return ['the connection was closed', 'read the log of meshd, which may be restarting']
    default:
      // EINVAL, for example: the path does not fit sun_path of unix(7).
      return [
        error instanceof Error ? error.message : String(error),
        'check --socket (a path of at most 107 bytes), and that meshd runs'
      ]
  }
}
