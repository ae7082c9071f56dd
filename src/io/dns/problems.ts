// Describes lasting problems of the responder's upstreams for the health registry.
import { socketAddressText, type SocketAddress } from './upstreams.ts'

export interface DnsProblem {
  readonly code: 'DNS_UPSTREAM' | 'DNS_LOOP'
  readonly subject: string
  readonly message: string
  readonly fix: string
}

export function fileProblem(message: string): DnsProblem {
  return {
    code: 'DNS_UPSTREAM',
    subject: message,
    message: `${message}: names outside the mesh are refused by servers that are missing`,
    fix: 'write a nameserver into it, or name servers in the setting dns-upstream (none = forward nothing)'
  }
}

export function ownProblem(upstream: SocketAddress): DnsProblem {
  return {
    code: 'DNS_UPSTREAM',
    subject: socketAddressText(upstream),
    message: `the DNS upstream ${socketAddressText(upstream)} is this responder itself: left out`,
    fix: 'name another server in the setting dns-upstream or in resolv.conf'
  }
}

export function loopProblem(upstream: SocketAddress): DnsProblem {
  return {
    code: 'DNS_LOOP',
    subject: socketAddressText(upstream),
    message: `the DNS upstream ${socketAddressText(upstream)} forwards our questions back to this responder: it is not asked for 30 s at a time`,
    fix: 'set dns-upstream here, or the forwarders of that server, so that one of them leads out of the loop'
  }
}
