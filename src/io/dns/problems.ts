// Describes lasting problems of the responder's upstreams. The responder process sends them to the agent, which shows
// them in its health registry (app/observe/health.ts) for as long as they last.
import { socketAddressText, type SocketAddress } from './upstreams.ts'

/** One row of the health registry. */
export interface DnsProblem {
  /** DNS_UPSTREAM: an upstream cannot be used. DNS_LOOP: an upstream forwards our questions back to us. */
  readonly code: 'DNS_UPSTREAM' | 'DNS_LOOP'
  /** The upstream's address, or the sentence about the file. With `code`, it identifies the problem. */
  readonly subject: string
  readonly message: string
  readonly fix: string
}

/** A file of upstreams that cannot be read or names no server. `message` is a sentence of `findUpstreams`. */
export function fileProblem(message: string): DnsProblem {
  return {
    code: 'DNS_UPSTREAM',
    subject: message,
    message: `${message}, so names outside the mesh may get no answer`,
    fix: 'add a nameserver line to the file, or set dns-upstream to the servers (none = forward nothing)'
  }
}

/** An upstream that is one of the responder's own sockets, which are never asked. */
export function ownProblem(upstream: SocketAddress): DnsProblem {
  return {
    code: 'DNS_UPSTREAM',
    subject: socketAddressText(upstream),
    message: `the DNS upstream ${socketAddressText(upstream)} is this responder itself, so it is not asked`,
    fix: 'set dns-upstream to another server, or change resolv.conf'
  }
}

/** An upstream for which the loop guard had a probe returned (loop-guard.ts). */
export function loopProblem(upstream: SocketAddress): DnsProblem {
  return {
    code: 'DNS_LOOP',
    subject: socketAddressText(upstream),
    message: `the DNS upstream ${socketAddressText(upstream)} forwards our queries back to this responder, so it is not asked for 30 s at a time`,
    fix: 'end the loop: set dns-upstream to another server, or change the forwarders of that server'
  }
}
