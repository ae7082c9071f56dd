// The admin API as a table: HTTP and JSON on a unix socket with mode 0600. meshd serves these rows
// (app/admin/server.ts) and meshctl calls them (cli/meshd/client.ts). Paths, methods and types are defined only here,
// so that the compiler checks both ends against one row. `requests.ts` has the schema of each row's request,
// `answers.ts` the fields of its answer.
import type {
  Answer,
  DnsAnswer,
  EventsAnswer,
  PeersAnswer,
  PlanAnswer,
  RoutesAnswer,
  ServicesAnswer,
  StatusAnswer
} from './answers.ts'
import type { DoctorAnswer, PingAnswer, WhyAnswer } from './diagnosis-answers.ts'
import type { HandOverAnswer } from './hand-over-answer.ts'
import type { SupportAnswer } from './support-answer.ts'
import type {
  BackupAnswer,
  CancelledAnswer,
  GatewayInviteAnswer,
  InviteAnswer,
  JoinedAnswer,
  KeyRotatedAnswer,
  LeftAnswer,
  RestoredAnswer,
  CertRenewedAnswer,
  ClusterKeyRotatedAnswer
} from './membership-answers.ts'
import type {
  AdminKeyAnswer,
  DoneAnswer,
  RootFileAnswer,
  StatementAnswer,
  TrustAnswer
} from './trust-answers.ts'
import type { Sent } from './requests.ts'

/** One row of the table: `S` is the request that meshctl sends, `A` the answer of meshd. */
export interface Endpoint<S, A extends Answer> {
  /** The request is the query of a GET, or the JSON body of a POST. */
  readonly method: 'GET' | 'POST'
  /** The path without a query, such as "/v1/status". It is unique together with the method. */
  readonly path: string
  /** This field is never set: it only carries the types `S` and `A`. */
  readonly types?: (sent: S) => A
}

/**
 * All requests of the admin API, by name. A GET changes nothing. The `satisfies` clause makes the compiler refuse a row
 * without a schema in requests.ts, and a schema without a row.
 */
export const ENDPOINTS = {
  status: get<Sent['status'], StatusAnswer>('/v1/status'),
  peers: get<Sent['peers'], PeersAnswer>('/v1/peers'),
  services: get<Sent['services'], ServicesAnswer>('/v1/services'),
  routes: get<Sent['routes'], RoutesAnswer>('/v1/routes'),
  dns: get<Sent['dns'], DnsAnswer>('/v1/dns'),
  why: get<Sent['why'], WhyAnswer>('/v1/why'),
  ping: get<Sent['ping'], PingAnswer>('/v1/ping'),
  doctor: get<Sent['doctor'], DoctorAnswer>('/v1/doctor'),
  events: get<Sent['events'], EventsAnswer>('/v1/events'),
  plan: get<Sent['plan'], PlanAnswer>('/v1/plan'),
  init: post<Sent['init'], JoinedAnswer>('/v1/init'),
  invite: post<Sent['invite'], InviteAnswer>('/v1/invite'),
  inviteGateway: post<Sent['inviteGateway'], GatewayInviteAnswer>('/v1/invite/gateway'),
  cancelGateways: post<Sent['cancelGateways'], CancelledAnswer>('/v1/invite/gateway/cancel'),
  join: post<Sent['join'], JoinedAnswer>('/v1/join'),
  leave: post<Sent['leave'], LeftAnswer>('/v1/leave'),
  backupCreate: post<Sent['backupCreate'], BackupAnswer>('/v1/backup/create'),
  backupRestore: post<Sent['backupRestore'], RestoredAnswer>('/v1/backup/restore'),
  trust: get<Sent['trust'], TrustAnswer>('/v1/trust'),
  remove: post<Sent['remove'], StatementAnswer>('/v1/trust/remove'),
  revoke: post<Sent['revoke'], StatementAnswer>('/v1/trust/revoke'),
  restore: post<Sent['restore'], StatementAnswer>('/v1/trust/restore'),
  decide: post<Sent['decide'], StatementAnswer>('/v1/trust/decide'),
  grant: post<Sent['grant'], StatementAnswer>('/v1/trust/grant'),
  cancel: post<Sent['cancel'], StatementAnswer>('/v1/trust/cancel'),
  adminKey: post<Sent['adminKey'], AdminKeyAnswer>('/v1/admin/key'),
  adminAdd: post<Sent['adminAdd'], StatementAnswer>('/v1/admin/add'),
  adminRemove: post<Sent['adminRemove'], StatementAnswer>('/v1/admin/remove'),
  rootExport: post<Sent['rootExport'], RootFileAnswer>('/v1/root/export'),
  rootExported: post<Sent['rootExported'], DoneAnswer>('/v1/root/exported'),
  rootImport: post<Sent['rootImport'], DoneAnswer>('/v1/root/import'),
  rootForget: post<Sent['rootForget'], DoneAnswer>('/v1/root/forget'),
  support: get<Sent['support'], SupportAnswer>('/v1/support'),
  handOver: get<Sent['handOver'], HandOverAnswer>('/v1/hand-over'),
  drain: post<Sent['drain'], HandOverAnswer>('/v1/drain'),
  undrain: post<Sent['undrain'], HandOverAnswer>('/v1/undrain'),
  keyRotate: post<Sent['keyRotate'], KeyRotatedAnswer>('/v1/key/rotate'),
  clusterKeyRotate: post<Sent['clusterKeyRotate'], ClusterKeyRotatedAnswer>('/v1/key/rotate/cluster'),
  certRenew: post<Sent['certRenew'], CertRenewedAnswer>('/v1/cert/renew')
} as const satisfies { readonly [Name in keyof Sent]: Endpoint<Sent[Name], Answer> }

/** The name of a row, for example "status". Handlers, schemas and answers are found by it. */
export type EndpointName = keyof typeof ENDPOINTS

/** The type of each endpoint's answer, by the name of the endpoint. */
export type Answers = {
  readonly [Name in EndpointName]: (typeof ENDPOINTS)[Name] extends Endpoint<Sent[Name], infer A> ? A : never
}

/**
 * Returns the endpoint with this method and path, or undefined when there is none; meshd then answers 404 NOT_FOUND.
 * `path` has no query.
 */
export function endpointOf(method: string, path: string): EndpointName | undefined {
  const names = Object.keys(ENDPOINTS) as EndpointName[]
  return names.find((name) => ENDPOINTS[name].method === method && ENDPOINTS[name].path === path)
}

function get<S, A extends Answer>(path: string): Endpoint<S, A> {
  return { method: 'GET', path }
}

function post<S, A extends Answer>(path: string): Endpoint<S, A> {
  return { method: 'POST', path }
}
