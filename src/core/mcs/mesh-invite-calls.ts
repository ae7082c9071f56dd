// The calls to the API server about MeshInvites: their status, the Secret with the token, and Events.
import { APPLY_PATCH, type KubeCall } from '../kube/kube-api.ts'
import {
  inviteConditions,
  timeText,
  type HeldInvite,
  type InviteCondition,
  type InviteState
} from './mesh-invite.ts'

const API_VERSION = 'rhizome.io/v1alpha1'
const KIND = 'MeshInvite'
/** The type of the Secret. The agent may create Secrets of this type only (templates/invites.yaml of the chart). */
const TOKEN_SECRET_TYPE = 'rhizome.io/join-token'
// Characters: the limit of the API server for the note of an Event is 1 kB.
const NOTE_MAX = 900

/** The path of all MeshInvites of a namespace. */
export function meshInvitesPath(namespace: string): string {
  return `/apis/${API_VERSION}/namespaces/${namespace}/meshinvites`
}

/** Where a call belongs: the namespace of the agent's own objects, and the time as Unix milliseconds. */
interface Place {
  readonly namespace: string
  readonly nowMs: number
}

/**
 * The call that writes the status. It names the uid, so that an object which was made anew under the same name is not taken for
 * the old one. A condition whose status is the same keeps its time.
 */
export function applyInviteStatus(
  held: HeldInvite,
  state: InviteState,
  { namespace, nowMs }: Place
): KubeCall {
  const conditions = inviteConditions(held, state).map((want) => {
    const before = held.conditions.find(({ type }) => type === want.type)
    const at = before?.['lastTransitionTime']
    const isSame = before?.['status'] === want.status && typeof at === 'string'
    return {
      ...want,
      observedGeneration: held.generation,
      lastTransitionTime: isSame ? at : timeText(nowMs)
    }
  })
  const made = state.kind === 'refused' ? undefined : state.made
  return {
    method: 'PATCH',
    path: `${meshInvitesPath(namespace)}/${held.name}/status`,
    query: { fieldManager: 'rhizome', force: 'true' },
    contentType: APPLY_PATCH,
    body: {
      apiVersion: API_VERSION,
      kind: KIND,
      metadata: { name: held.name, namespace, uid: held.uid },
      status: {
        observedGeneration: held.generation,
        conditions,
        ...(made !== undefined && {
          inviteID: made.id,
          expiresAt: timeText(made.expiresMs),
          podCIDRs: made.podCidrs,
          serviceCIDRs: made.serviceCidrs
        })
      }
    }
  }
}

/**
 * The call that creates the Secret with the token. It belongs to the MeshInvite, so it is deleted with it. A POST never changes
 * an object that exists: the server answers 409. `isTry`: the server checks everything and stores nothing; then the token
 * may be any text.
 */
export function secretCall(
  { name, uid }: HeldInvite,
  secretName: string,
  { namespace, token, isTry }: { readonly namespace: string; readonly token: string; readonly isTry: boolean }
): KubeCall {
  return {
    method: 'POST',
    path: `/api/v1/namespaces/${namespace}/secrets`,
    query: { fieldManager: 'rhizome', ...(isTry && { dryRun: 'All' }) },
    body: {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        name: secretName,
        namespace,
        labels: { 'app.kubernetes.io/name': 'rhizome', 'app.kubernetes.io/component': 'invite' },
        ownerReferences: [{ apiVersion: API_VERSION, kind: KIND, name, uid, controller: true }]
      },
      type: TOKEN_SECRET_TYPE,
      stringData: { token }
    }
  }
}

/** The call that makes the Event of a state. Its note is the message of the condition that says most. */
export function inviteEvent(
  held: HeldInvite,
  state: InviteState,
  { namespace, nowMs, node }: Place & { readonly node: string }
): KubeCall {
  const [ready] = inviteConditions(held, state) as [InviteCondition, InviteCondition]
  return {
    method: 'POST',
    path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
    body: {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      // The server appends five characters; a dot before them is no valid name.
      metadata: { generateName: `${held.name.slice(0, 50).replaceAll('.', '-')}-`, namespace },
      eventTime: new Date(nowMs).toISOString().replace('Z', '000Z'),
      reportingController: 'rhizome.io/meshd',
      reportingInstance: node.slice(0, 128) || 'meshd',
      action: 'Invite',
      reason: ready.reason.slice(0, 128),
      type: ready.status === 'True' ? 'Normal' : 'Warning',
      note: ready.message.slice(0, NOTE_MAX),
      regarding: { apiVersion: API_VERSION, kind: KIND, namespace, name: held.name, uid: held.uid }
    }
  }
}
