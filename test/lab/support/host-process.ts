// A host edge in a process of its own, so that it lives in a network namespace with its own lock and /proc/sys. Speaks JSON
// lines: first the options, then {id, method, args} each answered by {id, result | error}.
import { createInterface } from 'node:readline'
import { createHost, type LinuxHost } from '../../../src/io/host/host.ts'
import type { HostOp, HostPart } from '../../../src/core/host/host-state.ts'
import type { Ip } from '../../../src/core/model/values.ts'
import type { HostProcessOptions, Request } from './remote-host.ts'
import { openKernelReads } from '../../../src/io/host/kernel/reads.ts'
import { createRun } from '../../../src/io/host/tools/run.ts'
import { parseWgDump } from '../../../src/io/host/tunnel/wireguard/wg-dump.ts'
import { slowness } from '../../eventually.ts'
import { noLoadBalancer } from './no-load-balancer.ts'
import { patient } from './patient.ts'

const DEADLINE_MS = 60_000 * slowness()
const lines = createInterface({ input: process.stdin })
let host: LinuxHost | undefined
let device = ''
let hints = 0
const watching = new AbortController()

for await (const line of lines) {
  if (host === undefined) {
    host = create(JSON.parse(line) as HostProcessOptions)
    continue
  }
  const request = JSON.parse(line) as Request
  const answer = await call(host, request).then(
    (result) => ({ id: request.id, result }),
    (error: unknown) => ({ id: request.id, error: describe(error) })
  )
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
watching.abort()

function create(options: HostProcessOptions): LinuxHost {
  device = options.device
  return createHost({
    device: options.device,
    privateKey: () => options.privateKey,
    stateFolder: options.stateFolder,
    tunnelAddresses: (options.tunnelAddresses ?? []) as readonly Ip[],
    loadBalancer: options.loadBalancer ?? 'nftables',
    run: patient(createRun()),
    ...(options.bare === true ? { parts: noLoadBalancer() } : {})
  })
}

async function call(host: LinuxHost, { method, args }: Request): Promise<unknown> {
  const signal = AbortSignal.timeout(DEADLINE_MS)
  switch (method) {
    case 'start':
      return host.start()
    case 'look': {
      const { found, failures } = await host.look(args[0] as readonly HostPart[], signal)
      return { found, failures: failures.map(({ part, error }) => ({ part, ...describe(error) })) }
    }
    case 'observe':
      return host.observe(signal)
    case 'apply': {
      const [first] = await host.apply(args[0] as readonly HostOp[], signal)
      if (first !== undefined) throw first.error
      return undefined
    }
    case 'failures': {
      const failures = await host.apply(args[0] as readonly HostOp[], signal)
      return failures.map(({ op, error, scope }) => ({ op, scope, ...describe(error) }))
    }
    case 'describe':
      return host.describe(args[0] as HostOp)
    case 'peerStats':
      return host.peerStats(signal)
    case 'wireguard':
      return {
        kernel: await openKernelReads().wireguard(device),
        tool: parseWgDump((await createRun()('wg', ['show', device, 'dump'])).stdout)
      }
    case 'rivals':
      return host.rivals(signal)
    case 'surroundings':
      return host.surroundings(signal)
    case 'cleanup':
      return host.cleanup(signal)
    case 'stop':
      return host.stop()
    case 'preflight':
      return (await host.preflight()).map(describe)
    case 'detectMtu':
      return host.detectMtu()
    case 'watch':
      void host.watch({ onHint: () => (hints += 1), onFault: () => undefined }, watching.signal)
      return undefined
    case 'hints':
      return hints
    default:
      throw new Error(`unknown method ${method}`)
  }
}

function describe(error: unknown) {
  if (!(error instanceof Error)) return { message: String(error) }
  const { code, fix, tool } = error as Error & { code?: string; fix?: string; tool?: string }
  return { message: error.message, code, fix, tool }
}
