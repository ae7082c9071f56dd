// The stops of `meshctl why` that have to be measured: the route that the kernel itself takes, and a TCP connection. A way
// that is known to end is not measured, since nothing new would be learned.
import type { StopRow } from '../../api/diagnosis-answers.ts'
import type { Ip } from '../../core/model/values.ts'
import type { Way } from '../../core/why/addresses.ts'
import { fault, note, passes } from '../../core/why/stop.ts'
import { routeTo, type KernelRoute } from '../../io/host/routes/route-to.ts'
import { createRun } from '../../io/host/tools/run.ts'
import { tryConnection, type Tried } from '../../io/network/try-connection.ts'
import { sentence } from '../observe/errors.ts'
import type { Session } from '../session/session.ts'
import type { AgentState } from './agent-state.ts'

// A connection within one continent is answered in 0.3 s; with one lost SYN (RFC 6298: 1 s) it takes 1.3 s.
const CONNECT_MS = 3000
const KERNEL_MS = 5000

/** The stops that have to be measured: the kernel's own lookup, and a TCP connection where nothing is known to end it. */
export async function measured(
  { host, settings }: Pick<AgentState, 'host' | 'settings'>,
  way: Way,
  { connects }: { readonly connects: boolean }
): Promise<readonly StopRow[]> {
  if (way.stops.some(({ state }) => state === 'fault')) return []
  const stops: StopRow[] = []
  if (host !== undefined && way.routed !== undefined)
    stops.push(
      await routeTo(createRun(), way.routed, AbortSignal.timeout(KERNEL_MS))
        .then((route) => kernelStop(way.routed, route, settings.device))
        .catch((error: unknown) => note('kernel', `the kernel's route cannot be read: ${sentence(error)}`))
    )
  const { connect } = way
  if (!connects || connect === undefined) return stops
  if (connect.protocol !== 'TCP')
    return [...stops, note('connection', `${connect.protocol} has no handshake here, so nothing was tried`)]
  const tried = await tryConnection(connect, CONNECT_MS)
  return [...stops, connectionStop(`${connect.ip} port ${connect.port}`, tried)]
}

/** The kernel's own answer. Another device than the tunnel means a rule or a route of another program before ours. */
function kernelStop(ip: Ip | undefined, route: KernelRoute, device: string): StopRow {
  if (route.kind === 'none')
    return fault(
      'kernel',
      `the kernel refuses packets to ${ip}: ${route.text}`,
      '`ip rule` and `ip route show table all` show the rule or route of another program that comes before ours'
    )
  return route.device === device
    ? passes('kernel', `the kernel sends packets to ${ip} into ${device}`)
    : fault(
        'kernel',
        `the kernel sends packets to ${ip} to ${route.device} and not to ${device}`,
        `a rule or route of another program comes before ours: \`ip route get ${ip}\` and \`ip rule\` show it`
      )
}

/** The result of a TCP connection, with what each failure means after all other stops have passed. */
function connectionStop(where: string, tried: Tried): StopRow {
  switch (tried.kind) {
    case 'connected':
      return passes(
        'connection',
        `a TCP connection from this host to ${where} was accepted after ${tried.ms.toFixed(1)} ms`
      )
    case 'refused':
      return fault(
        'connection',
        `a TCP connection from this host to ${where} was refused`,
        'no program listens at the port of the endpoint: check targetPort of the Service, and that the program listens at the address of its pod and not at 127.0.0.1 only; or its cluster does not let this one in (settings reach and reach-clusters there)'
      )
    case 'silent':
      return fault(
        'connection',
        `a TCP connection from this host to ${where} was not answered within ${CONNECT_MS / 1000} s`,
        'packets are lost behind the tunnel: check that the pod of the endpoint runs, look for a NetworkPolicy or a firewall at the endpoint, and run `meshctl why` in its cluster for the way back'
      )
    case 'failed':
      return fault('connection', `a TCP connection from this host to ${where} failed: ${tried.code}`)
    default:
      return tried satisfies never
  }
}

/** What the upstream servers say about a name that is not of the mesh. */
export async function upstreamStop(session: Pick<Session, 'lookup'>, name: string): Promise<StopRow> {
  const { upstream, rcode, records } = await session.lookup({ name, type: 'A' })
  const addresses = records.filter(({ type }) => type === 'A' || type === 'AAAA').map(({ data }) => data)
  if (upstream === undefined)
    return fault(
      'name',
      'no upstream DNS server answers',
      'check the setting dns-upstream, or /etc/resolv.conf of this host'
    )
  return rcode === 'NOERROR'
    ? passes(
        'name',
        `the upstream server ${upstream} answers ${addresses.join(', ') || 'without an address'}`
      )
    : fault('name', `the upstream server ${upstream} answers ${rcode}`)
}
