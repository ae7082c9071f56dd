// Checks of DNS: the responder of this host over UDP, as a pod asks it, and the upstream servers.
// `meshctl dns` computes an answer in the agent and does not use the network; these checks do, so they find rules that drop or
// redirect port 53.
import { lookup } from '../../io/dns/lookup.ts'
import { clusterZone } from '../../core/model/zones.ts'
import type { Session } from '../session/session.ts'
import type { Finding } from './finding.ts'

/** A name that no server has (RFC 6761, 6.4): an upstream server answers it without asking another. */
const NO_NAME = 'doctor.invalid'

/** The parts of a session that the check of the responder reads. */
type Asked = Pick<Session, 'dnsAddress' | 'faults' | 'control'>

/** Asks the responder for a name of its own cluster's zone, over UDP and from this host. */
export async function checkResponder(session: Asked): Promise<readonly Finding[]> {
  const address = session.dnsAddress
  if (address === undefined) {
    const text = session.faults.get('dns')?.message ?? 'it is switched off'
    return [
      { check: 'dns', state: 'warning', subject: '', text: `no DNS responder runs on this host: ${text}` }
    ]
  }
  const zone = clusterZone(session.control.view().self)
  const { rcode, upstream } = await lookup({
    upstreams: [address],
    listening: [],
    name: `dns-version.${zone}`,
    type: 'TXT'
  })
  if (upstream !== undefined && rcode === 'NOERROR')
    return [{ check: 'dns', state: 'ok', subject: address, text: `the responder answers for ${zone}` }]
  return [
    {
      check: 'dns',
      state: 'fault',
      subject: address,
      text:
        upstream === undefined
          ? 'the responder does not answer over UDP'
          : `the responder answers ${rcode} for ${zone}`,
      fix: 'look for a rule that drops or redirects UDP port 53 on this host (`nft list ruleset`); `meshctl status` shows the state of the responder'
    }
  ]
}

/** Asks the upstream servers, to which the responder forwards all other names. */
export async function checkUpstream(session: Pick<Session, 'lookup'>): Promise<readonly Finding[]> {
  const { upstream, rcode } = await session.lookup({ name: NO_NAME, type: 'A' })
  if (upstream !== undefined)
    return [
      { check: 'upstream-dns', state: 'ok', subject: upstream, text: `it answers (${rcode} for ${NO_NAME})` }
    ]
  return [
    rcode === 'REFUSED'
      ? {
          check: 'upstream-dns',
          state: 'warning',
          subject: '',
          text: 'there is no upstream server, so names outside the mesh are refused',
          fix: 'set dns-upstream, or name a server in /etc/resolv.conf of this host'
        }
      : {
          check: 'upstream-dns',
          state: 'fault',
          subject: '',
          text: 'no upstream server answers, so pods that ask this responder resolve no name outside the mesh',
          fix: 'check the servers of the setting dns-upstream, or of /etc/resolv.conf of this host'
        }
  ]
}
