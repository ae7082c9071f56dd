// GET /v1/dns for `meshctl dns`: the answer of the responder and its upstreams to a question. Without a name, it lists
// the zones. The answer is computed in this process from the same view, so it does not need a responder that runs.
import type { DnsAnswer } from '../../../api/answers.ts'
import type { Requests } from '../../../api/requests.ts'
import type { Ip } from '../../../core/model/values.ts'
import type { LookupAnswer } from '../../../io/dns/lookup.ts'
import { AppError } from '../../observe/errors.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import type { AdminHandlers } from '../server.ts'

// The types that `meshctl dns` accepts. The responder itself handles questions of every type.
const DNS_TYPES = new Set(['A', 'AAAA', 'SRV', 'PTR', 'TXT', 'CNAME', 'NS', 'SOA'])

/** Returns the handler. Errors: AppError NOT_JOINED; BAD_ARGUMENT for a wrong name or type. */
export function dnsRoute(state: Pick<AgentState, 'session'>): AdminHandlers['dns'] {
  return async (query) => dns(requireSession(state.session), query)
}

/**
 * Answers names of the mesh from the view. Other names are looked up at the upstreams, as the responder does it. If the
 * name is an ExternalName service whose target is outside the mesh, the records of the target are looked up and added,
 * as a client would see them.
 */
async function dns(session: Session, { name, type }: Requests['dns']): Promise<Body<DnsAnswer>> {
  const names = session.names()
  if (name === undefined || name === '') {
    return { zones: names.zones().map((zone) => ({ ...zone, zone: zone.zone.replace(/\.$/, '') })) }
  }
  const asked = type.toUpperCase()
  if (!DNS_TYPES.has(asked))
    throw new AppError(
      'BAD_ARGUMENT',
      `type: ${JSON.stringify(type)} is not one of ${[...DNS_TYPES].join(', ')}`
    )
  // RFC 1035 limits: labels of 63 characters, 253 in all. Underscores are allowed, since SRV names have them (RFC
  // 2782).
  const bare = name.replace(/\.$/, '')
  if (bare.length > 253 || !/^[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*$/.test(bare))
    throw new AppError('BAD_ARGUMENT', `name: ${JSON.stringify(name)} is not a DNS name`)
  const reply = names.answer({ name: bare, type: asked })
  if (reply.kind === 'forward') return forwarded(await session.lookup({ name: bare, type: asked }))
  const records = reply.answers.map((record) => ({
    name: record.name,
    type: record.type,
    ttl: record.ttl,
    data: typeof record.data === 'string' ? record.data : dataText(record.data)
  }))
  if (reply.externalTarget === undefined || (asked !== 'A' && asked !== 'AAAA'))
    return { rcode: reply.rcode, forwarded: false, records }
  const target = await session.lookup({ name: reply.externalTarget, type: asked })
  return {
    ...forwarded(target),
    rcode: reply.rcode,
    forwarded: false,
    records: [...records, ...target.records]
  }
}

/** The answer of an upstream. `upstream` is left out when none answered. */
function forwarded({ upstream, rcode, records }: LookupAnswer): Body<DnsAnswer> {
  return { forwarded: true, rcode, records, ...(upstream === undefined ? {} : { upstream }) }
}

/** The data of a record as one text, with spaces between its fields. */
function dataText(data: object): string {
  return Array.isArray(data)
    ? data.join(' ')
    : Object.values(data as Record<string, string | number | Ip>).join(' ')
}
