// The tool `toylb` and its kernel, in memory: what the toy load balancer of docs/adding.md runs.
import { createHash } from 'node:crypto'
import type { RealServer, VirtualServer } from '../../../src/core/host/host-state.ts'
import type { Run } from '../../../src/io/host/ports.ts'
import { CLIENTS, type Question } from '../load-balancer.ts'

export class ToyKernel {
  /** Virtual servers by owner and key. */
  readonly #owners = new Map<string, Map<string, VirtualServer>>()
  #turn = 0

  serversOf(owner: string): Map<string, VirtualServer> {
    const servers = this.#owners.get(owner) ?? new Map<string, VirtualServer>()
    this.#owners.set(owner, servers)
    return servers
  }

  readonly run: Run = async (tool, [verb = '', owner = ''], options) => {
    if (tool !== 'toylb') throw new Error(`no such tool: ${tool}`)
    const servers = this.serversOf(owner)
    if (verb === 'apply')
      for (const line of (options?.stdin ?? '').split('\n')) {
        const [, set, gone] = /^set (.*)$|^remove (.*)$/.exec(line) ?? []
        if (gone !== undefined) servers.delete(gone)
        if (set === undefined) continue
        const server: VirtualServer = JSON.parse(set)
        servers.set(keyOf(server), server)
      }
    return { stdout: JSON.stringify([...servers.values()]), stderr: '', exitCode: 0 }
  }

  /** The backend that a new connection gets, as "ip port", or ECONNREFUSED. */
  connect({ protocol, ip, port, source = CLIENTS[0] }: Question): string {
    const key = `${protocol} ${ip} ${port}`
    const server = [...this.#owners.values()].flatMap((servers) => servers.get(key) ?? [])[0]
    const open = (server?.realServers ?? []).filter(({ weight }) => weight > 0)
    const isSticky = server !== undefined && (server.affinitySeconds > 0 || server.scheduler === 'mh')
    const chosen = isSticky
      ? open.toSorted((a, b) => (rank(source, a) < rank(source, b) ? -1 : 1))[0]
      : open[this.#turn++ % open.length]
    return chosen === undefined ? 'ECONNREFUSED' : `${chosen.ip} ${chosen.port}`
  }
}

function keyOf({ protocol, vip, port }: VirtualServer): string {
  return `${protocol} ${vip} ${port}`
}

/** A client stays with its backend when another one goes (rendezvous hashing). */
function rank(source: string, { ip, port }: RealServer): string {
  return createHash('sha256').update(`${source} ${ip} ${port}`).digest('hex')
}
