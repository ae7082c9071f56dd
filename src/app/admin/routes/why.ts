// GET /v1/why for `meshctl why`: the way of a connection, stop by stop. The stops follow from the view, the host as the
// latest pass left it, the tunnels and the faults (core/why); measured-stops.ts adds what only the kernel, the upstream DNS
// servers and the network know.
// Invariant: it changes nothing. What is measured leaves no trace but a closed TCP connection that carried no byte.
import type { StopRow, WhyAnswer } from '../../../api/diagnosis-answers.ts'
import type { Requests } from '../../../api/requests.ts'
import { parseIp } from '../../../core/model/cidr.ts'
import { explain } from '../../../core/why/explain.ts'
import { parseAsked } from '../../../core/why/question.ts'
import type { ProgrammedFacts, WhyFacts } from '../../../core/why/stop.ts'
import { balancesOwn } from '../../host/desired-host.ts'
import { AppError } from '../../observe/errors.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import { measured, upstreamStop } from '../measured-stops.ts'
import { whyMissing } from '../missing.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED; BAD_ARGUMENT for a malformed target or source. */
export function whyRoute(state: AgentState): AdminHandlers['why'] {
  // Each request is followed anew: nothing of an earlier answer is kept.
  return async (request) => why(state, requireSession(state.session), request)
}

/**
 * Follows the question to its end. The ways to several addresses are measured side by side, so the answer takes
 * the time of `ip` and of the upstream servers at most.
 */
async function why(state: AgentState, session: Session, request: Requests['why']): Promise<Body<WhyAnswer>> {
  const asked = parseAsked(request.target)
  if (asked.kind === 'invalid')
    throw new AppError(
      'BAD_ARGUMENT',
      `target: ${asked.reason}`,
      'write it as in web.shop.svc.cluster.east:80, 10.102.0.10:53/udp or [fd00::1]:443'
    )
  const from = request.from === undefined ? undefined : parseIp(request.from)
  if (request.from !== undefined && from === undefined)
    throw new AppError(
      'BAD_ARGUMENT',
      `from: ${JSON.stringify(request.from)} is not an IP address`,
      'give the address of the pod, as `kubectl get pod -o wide` shows it'
    )
  await session.paths.examine()
  const explained = explain(asked, from, factsOf(state, session))
  const stops: StopRow[] = [...explained.stops]
  const isEnded = stops.some(({ state }) => state === 'fault')
  if (explained.forward && asked.kind === 'name' && !isEnded)
    stops.push(await upstreamStop(session, asked.name))
  const connects = request.connect === 'yes'
  const ways = await Promise.all(
    explained.ways.map(async (way) => ({
      address: way.ip,
      stops: [...way.stops, ...(await measured(state, way, { connects }))]
    }))
  )
  return { verdict: verdictOf(stops, ways, explained.forward), stops, ways }
}

/** What core/why needs to know, as it is at this moment. Nothing is copied. */
function factsOf(state: AgentState, session: Session): WhyFacts {
  const { host, hostFault, settings } = state
  const have = session.reconciler?.have
  const programmed: ProgrammedFacts | undefined = host &&
    have && {
      have,
      whyMissing: (object) => whyMissing(session, object),
      overlap: (prefix) => session.overlaps.get(prefix),
      loadBalancer: host.loadBalancer
    }
  return {
    view: session.control.view(),
    translation: session.membership.translation,
    names: session.names(),
    withdrawn: session.withdrawn,
    balanced: session.balancing.services(),
    tunnel: (origin) => session.paths.tunnels.of(origin),
    way: (origin) => session.paths.ways.of(origin),
    host: programmed ?? { off: hostFault ?? 'the first pass has not ended yet' },
    balancesOwn: balancesOwn(settings),
    faults: state.health.faults()
  }
}

/**
 * The verdict on all ways together. A fault before the ways part ends all of them. `outside`: no address is of the mesh, or
 * the upstream servers have to answer for the name.
 */
function verdictOf(
  stops: readonly StopRow[],
  ways: WhyAnswer['ways'],
  isForwarded: boolean
): WhyAnswer['verdict'] {
  const ends = (list: readonly StopRow[]) => list.some(({ state }) => state === 'fault')
  const ended = ways.filter((way) => ends(way.stops)).length
  if (ends(stops) || (ways.length > 0 && ended === ways.length)) return 'fails'
  if (ended > 0) return 'partly'
  const isOutside = ways.every((way) =>
    way.stops.every(({ stop }) => stop === 'prefix' || stop === 'connection')
  )
  const isOfMesh = ways.some((way) =>
    way.stops.some(({ stop, state }) => stop === 'prefix' && state === 'ok')
  )
  return isForwarded || (isOutside && !isOfMesh) ? 'outside' : 'works'
}
