// Makes the handlers of all endpoints of the admin API from the parts of the agent. Each handler has its own file in
// routes/, and each gets only the parts that it uses. agent/agent.ts calls this once and gives the result to server.ts.
import { createBackup } from '../enrolment/create-backup.ts'
import type { Enrolment } from '../enrolment/enrolment.ts'
import type { GatewayInvites } from '../enrolment/gateway-invites.ts'
import type { Invitations } from '../enrolment/invitations.ts'
import type { KeySuccession } from '../enrolment/key-succession.ts'
import type { Log } from '../observe/log.ts'
import type { LogRing } from '../observe/log-ring.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { AgentState } from './agent-state.ts'
import { backupRoutes } from './routes/backup.ts'
import { certRenewRoute } from './routes/cert-renew.ts'
import { dnsRoute } from './routes/dns.ts'
import { doctorRoute } from './routes/doctor.ts'
import { drainRoutes } from './routes/drain.ts'
import { eventsRoute } from './routes/events.ts'
import { initRoute } from './routes/init.ts'
import { gatewayRoutes, inviteRoute } from './routes/invite.ts'
import { joinRoute } from './routes/join.ts'
import { clusterKeyRotateRoute, keyRotateRoute } from './routes/key-rotate.ts'
import { leaveRoute } from './routes/leave.ts'
import { peersRoute } from './routes/peers.ts'
import { pingRoute } from './routes/ping.ts'
import { planRoute } from './routes/plan.ts'
import { routesRoute } from './routes/routes.ts'
import { servicesRoute } from './routes/services.ts'
import { statusRoute } from './routes/status.ts'
import { supportRoute } from './routes/support.ts'
import { administrationRoutes } from './routes/administration.ts'
import { trustRoute } from './routes/trust.ts'
import { whyRoute } from './routes/why.ts'
import type { Administration } from '../administration/administration.ts'
import type { Administrators } from '../administration/administrators.ts'
import type { RootKeys } from '../administration/root-keys.ts'
import type { Store } from '../../io/store/store.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { AdminHandlers } from './server.ts'

/** The parts of the agent that the handlers use. */
interface HandlerParts {
  readonly state: AgentState
  readonly enrolment: Enrolment
  readonly invitations: Invitations
  readonly gateways: GatewayInvites
  readonly succession: KeySuccession
  readonly administration: Administration
  readonly administrators: Administrators
  readonly rootKeys: RootKeys
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity'>
  readonly crypto: Crypto
  readonly log: Log
  readonly lines: LogRing
  readonly metrics: Metrics
  /** Updates the registry of health now, so that the answer of `status` is not up to a second old. */
  readonly look: () => void
}

/** Returns one handler for each row of ENDPOINTS; a missing one is an error of types. */
export function createHandlers(parts: HandlerParts): AdminHandlers {
  const { state } = parts
  return {
    status: statusRoute(parts),
    peers: peersRoute(state),
    services: servicesRoute(state),
    routes: routesRoute(state),
    dns: dnsRoute(state),
    why: whyRoute(state),
    ping: pingRoute(state),
    doctor: doctorRoute(state),
    events: eventsRoute(state),
    plan: planRoute(state),
    init: initRoute(parts),
    invite: inviteRoute(parts),
    ...gatewayRoutes(parts),
    join: joinRoute(parts),
    leave: leaveRoute(parts),
    ...backupRoutes({ ...parts, createBackup: (request) => createBackup(parts, request) }),
    trust: trustRoute(parts),
    support: supportRoute(parts),
    ...administrationRoutes(parts),
    ...drainRoutes(state),
    keyRotate: keyRotateRoute(state),
    clusterKeyRotate: clusterKeyRotateRoute(parts),
    certRenew: certRenewRoute(state)
  }
}
