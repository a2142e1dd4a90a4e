"""The description of the HTTP interface, made from the table of operations."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from colony import __version__, errors, schema
from colony.operations import OPERATIONS, Operation

_REFERENCE = "#/components/schemas/{model}"


def document() -> dict[str, Any]:
    """An OpenAPI 3.1 document of every operation."""
    models: list[type[BaseModel]] = [schema.Problem]
    for operation in OPERATIONS.values():
        models += [operation.request, operation.response]
    _, definitions = models_json_schema([(model, "validation") for model in dict.fromkeys(models)], ref_template=_REFERENCE)
    schemas = definitions["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS.values():
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Colony", "version": __version__, "description": "A home for AI agents."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _described(operation: Operation[Any, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    fields = schemas[operation.request.__name__]
    in_path = operation.path_fields
    others = [name for name in fields.get("properties", {}) if name not in in_path]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter(name, "path", fields) for name in in_path],
        "responses": {"200": _answer(operation.response.__name__, "application/json"), "default": _answer("Problem")},
    }
    if operation.streams:
        described["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
        described["parameters"].append(_parameter("since", "header", fields) | {"name": "Last-Event-ID"})
    for status in sorted({kind.status for kind in errors.BY_CODE.values() if 400 <= kind.status < 500}):
        described["responses"][str(status)] = _answer("Problem")
    if operation.method in ("GET", "DELETE"):
        described["parameters"] += [_parameter(name, "query", fields) for name in others]
    elif others:
        body = {key: value for key, value in fields.items() if key not in ("properties", "required")}
        body["properties"] = {name: fields["properties"][name] for name in others}
        body["required"] = [name for name in fields.get("required", []) if name in others]
        described["requestBody"] = {"required": bool(body["required"]), "content": {"application/json": {"schema": body}}}
    described["parameters"].append({"name": "Colony-Turn", "in": "header", "required": False, "schema": {"type": "string"}})
    return described


def _parameter(name: str, place: str, fields: dict[str, Any]) -> dict[str, Any]:
    required = place == "path" or name in fields.get("required", [])
    return {"name": name, "in": place, "required": required, "schema": fields["properties"][name]}


def _answer(model: str, mimetype: str = "application/problem+json") -> dict[str, Any]:
    return {"description": model, "content": {mimetype: {"schema": {"$ref": _REFERENCE.format(model=model)}}}}
