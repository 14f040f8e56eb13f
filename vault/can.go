package vault

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"

	"dsvault/rbac"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// Can explains a decision without acting on it: to anybody about themselves,
// and to those who may test the policy about others. An object is SCOPE,
// DATASET/N for a shard, or KIND:SCOPE.
func (v *Vault) Can(ctx context.Context, c identity.Caller, person string, action rbac.Action, object, purpose string, delivery dataset.Delivery) (wire.Decision, error) {
	return v.CanFrom(ctx, c, netip.Addr{}, person, action, object, purpose, delivery)
}

// CanFrom is Can for a person who asks from an address. The zero Addr is the
// caller's own, and for others none that is known.
func (v *Vault) CanFrom(ctx context.Context, c identity.Caller, from netip.Addr, person string, action rbac.Action, object, purpose string, delivery dataset.Delivery) (wire.Decision, error) {
	obj, err := parseObject(action, object)
	if err != nil {
		return wire.Decision{}, err
	}
	if _, err := rbac.ParseAction(string(action)); err != nil {
		return wire.Decision{}, err
	}
	if delivery != "" {
		if _, err := dataset.ParseDelivery(string(delivery)); err != nil {
			return wire.Decision{}, err
		}
	}
	t, err := v.target(ctx, obj.Scope)
	if err != nil {
		return wire.Decision{}, err
	}
	who := c.Principal
	self := person == "" || person == "me" || person == c.Handle
	if !self {
		in := v.intent(c, audit.KindList, t, rbac.Test, rbac.PolicyObj)
		p, err := v.principal(ctx, c, person, in)
		if err != nil {
			return wire.Decision{}, err
		}
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return wire.Decision{}, err
		}
		who = p.ID
	}
	if purpose == "" && t.known && t.scope.Depth() == 3 {
		f, err := v.findShard(ctx, c, t, 0, dataset.DeviceID{})
		if err != nil {
			return wire.Decision{}, err
		}
		if len(f.project.Purposes) == 1 {
			purpose = f.project.Purposes[0]
		}
	}
	owner := dataset.PrincipalID{}
	if action == rbac.Read && (obj.Kind == rbac.AssignmentObj || obj.Kind == rbac.Annotation) {
		owner = who // what people ask is whether they may see their own
	}
	obj.Owner = owner
	of := dataset.PrincipalID{}
	if obj.Kind == rbac.Subject || obj.Kind == rbac.RequestObj {
		of = who
	}
	if self && !from.IsValid() {
		from = addressOf(c)
	}
	d, err := v.ledger.Explain(ctx, rbac.Query{Actor: who, Action: action, Object: obj, Target: of, Purpose: purpose, Delivery: delivery, Address: from, Now: v.now()})
	if err != nil {
		return wire.Decision{}, err
	}
	if self && !d.Allowed && !d.Visible {
		return wire.Decision{}, ledger.Absent()
	}
	out := wire.Decision{Allowed: d.Allowed, Rule: d.Rule, Reasons: d.Reasons, Facts: d.Facts.Names(), Roles: d.Roles.Names(),
		Revision: d.Revision, Policy: hex.EncodeToString(d.Policy[:])}
	if !d.Allowed {
		out.Hint = ledger.Hint(d)
	}
	return out, nil
}

// kindOf gives the kind that an action is about where only a scope is named.
var kindOf = map[rbac.Action]rbac.Kind{
	rbac.Grant: rbac.GrantObj, rbac.Assign: rbac.AssignmentObj, rbac.Publish: rbac.AgreementObj, rbac.Export: rbac.ExportObj,
	rbac.Test: rbac.PolicyObj, rbac.Suspend: rbac.Person, rbac.Submit: rbac.Annotation, rbac.Review: rbac.Annotation, rbac.Claim: rbac.Annotation,
	rbac.Approve: rbac.Approval, rbac.Rotate: rbac.Key, rbac.Destroy: rbac.Key, rbac.Revoke: rbac.GrantObj,
}

func parseObject(action rbac.Action, s string) (rbac.Object, error) {
	kindText, rest, explicit := strings.Cut(s, ":")
	if !explicit {
		rest = s
	}
	obj := rbac.Object{Shard: -1}
	var err error
	if explicit {
		if obj.Kind, err = rbac.ParseKind(kindText); err != nil {
			return obj, err
		}
	}
	if strings.Count(rest, "/") == 3 {
		ref, err := dataset.ParseShardRef(rest)
		if err != nil {
			return obj, err
		}
		obj.Scope, obj.Shard = ref.Dataset, ref.Number
		if !explicit {
			obj.Kind = rbac.Shard
		}
		return obj, nil
	}
	if obj.Scope, err = dataset.ParseScope(rest); err != nil {
		return obj, err
	}
	if !explicit {
		obj.Kind = recordKind(obj.Scope)
		if k, ok := kindOf[action]; ok {
			obj.Kind = k
		}
	}
	if obj.Kind == rbac.Shard {
		return obj, fault.New(fault.Invalid, "vault.Can", "which shard?").WithHint("name it: CLIENT/PROJECT/DATASET/NUMBER")
	}
	return obj, nil
}
