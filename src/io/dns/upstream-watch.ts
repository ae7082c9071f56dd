// Gives the forwarder the upstreams that the option `upstreams` names. One of them may be the path of a resolv.conf;
// such a file is read again each second, so that a change of the file counts without a restart.
import { createForwarder, type Forwarder } from './forwarder.ts'
import { fileProblem, loopProblem, ownProblem, type DnsProblem } from './problems.ts'
import { findUpstreams, isOwnAddress, sameAddress, type SocketAddress } from './upstreams.ts'

interface UpstreamWatchOptions {
  /** The option `upstreams` of server.ts. */
  readonly upstreams: readonly string[]
  /** The addresses of this responder. An upstream with such an address is left out: forwarding would never end. */
  readonly listening: () => readonly SocketAddress[]
  /** Milliseconds to wait for a reply; undefined: the default of forwarder.ts. */
  readonly timeoutMs: number | undefined
  readonly onWarning: (message: string) => void
  /** Called with all current problems whenever their list changes. */
  readonly onProblems: (problems: readonly DnsProblem[]) => void
}

/** Reads the upstreams for one DNS server. Before `start` its forwarder has no upstreams. */
export class UpstreamWatch {
  readonly #options: UpstreamWatchOptions
  #settings: readonly string[]
  /** Problems of upstreams that are left out, and of files that name none. */
  #upstreamProblems: readonly DnsProblem[] = []
  /** Problems of upstreams that forward our questions back to us. */
  #loopProblems: readonly DnsProblem[] = []
  #timer: NodeJS.Timeout | undefined
  #forwarder: Forwarder

  constructor(options: UpstreamWatchOptions) {
    this.#options = options
    this.#settings = options.upstreams
    this.#forwarder = this.#newForwarder()
  }

  /** The present forwarder; read it for each query, because `stop` replaces it. */
  get forwarder(): Forwarder {
    return this.#forwarder
  }

  /** Throws DnsError BAD_UPSTREAM for a setting that is neither an address nor a path. A missing file is no error. */
  check(): void {
    findUpstreams(this.#settings)
  }

  /**
   * Reads the upstreams, and the files that name upstreams, now and then each second. Call it when the sockets are
   * bound, because the bound addresses tell which upstreams are this responder itself.
   */
  start(): void {
    this.#look()
    this.#timer = setInterval(() => this.#look(), UPSTREAM_LOOK_MS)
  }

  /** Replaces the settings. Throws DnsError BAD_UPSTREAM and keeps the old ones. Before `start` nothing is read. */
  set(upstreams: readonly string[]): void {
    findUpstreams(upstreams)
    this.#settings = upstreams
    if (this.#timer !== undefined) this.#look()
  }

  /** Ends the queries that wait for an upstream. The watch may be started again. */
  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#forwarder.stop()
    this.#forwarder = this.#newForwarder()
  }

  #newForwarder(): Forwarder {
    const { timeoutMs } = this.#options
    return createForwarder({
      upstreams: [],
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      onLoops: (upstreams) => {
        this.#loopProblems = upstreams.map(loopProblem)
        this.#tellProblems()
      }
    })
  }

  /**
   * Reads the upstreams once. Files are read again and not watched by inotify, because resolv.conf may be a link, or be
   * replaced, mounted over or written in place.
   */
  #look(): void {
    const { listening, onWarning } = this.#options
    const { upstreams, problems } = findUpstreams(this.#settings)
    const own = upstreams.filter((upstream) => isOwnAddress(upstream, listening()))
    const next = upstreams.filter((upstream) => !own.includes(upstream))
    const found = [...problems.map(fileProblem), ...own.map(ownProblem)]
    const isNew = messagesOf(found) !== messagesOf(this.#upstreamProblems)
    this.#upstreamProblems = found
    if (isNew) for (const { message } of found) onWarning(message)
    // The forwarder keeps what it knows of an upstream, but setUpstreams reports loops again. So it is called for
    // changes only.
    if (!isSame(next, this.#forwarder.upstreams)) this.#forwarder.setUpstreams(next)
    if (isNew) this.#tellProblems()
  }

  #tellProblems(): void {
    this.#options.onProblems([...this.#upstreamProblems, ...this.#loopProblems])
  }
}

function messagesOf(problems: readonly DnsProblem[]): string {
  return problems.map(({ message }) => message).join()
}

/** Compares in order: the forwarder asks the first upstream first. */
function isSame(left: readonly SocketAddress[], right: readonly SocketAddress[]): boolean {
  return left.length === right.length && left.every((each, index) => sameAddress(each, right[index] ?? each))
}

/** Milliseconds between two readings, after which a changed resolv.conf counts. One reading takes about 20 µs. */
export const UPSTREAM_LOOK_MS = 1000
