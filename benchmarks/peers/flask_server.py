"""A typical implementation of the legacy API: Flask, pymodm, and one document per patient.

For comparison with Bedside (`cargo run --release -p bedside-benchmarks --bin peers`), written from the description of the routes. All data of a
patient is embedded in one document: images as lists of base64 text, and lists of heart rates and times. An upload reads the
document, appends to its lists, and saves it.

PEER_MONGODB is the connection string, for example mongodb://127.0.0.1:27017/peer.
"""

import base64
import binascii
import os
from datetime import datetime

from flask import Flask, jsonify, request
from pymodm import MongoModel, connect, fields

connect(os.environ["PEER_MONGODB"])
app = Flask(__name__)


class Patient(MongoModel):
    medical_record_number = fields.IntegerField(primary_key=True)
    name = fields.CharField(blank=True)
    medical_image = fields.ListField(fields.CharField(), blank=True)
    ecg_image = fields.ListField(fields.CharField(), blank=True)
    heart_rate = fields.ListField(fields.IntegerField(), blank=True)
    timestamp = fields.ListField(fields.CharField(), blank=True)

    class Meta:
        final = True
        collection_name = "patients"


class BadRequest(Exception):
    """An error that is answered with 400 and its message."""


@app.errorhandler(BadRequest)
def bad_request(error):
    return str(error), 400


def parse_id(raw, complaint):
    try:
        return int(raw)
    except (TypeError, ValueError):
        raise BadRequest(complaint.format(raw)) from None


def check_picture(data, key):
    try:
        head = base64.b64decode(data, validate=True)[:8]
    except (binascii.Error, TypeError, ValueError):
        raise BadRequest(f"{key} is not base64") from None
    if not (head.startswith(b"\xff\xd8\xff") or head == b"\x89PNG\r\n\x1a\n"):
        raise BadRequest(f"{key} is neither PNG nor JPEG")


def parse_upload(body):
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    number = body.get("medical_record_number", "")
    if number == "":
        raise BadRequest("Make sure to enter the patient id ")
    upload = {
        "id": parse_id(number, "The input {} cannot be converted into integer"),
        "name": body.get("name", ""),
        "medical_image": body.get("medical_image", ""),
        "ecg_image": body.get("ecg_image", ""),
        "hr": body.get("hr", 0) or 0,
    }
    for key in ("medical_image", "ecg_image"):
        if upload[key]:
            check_picture(upload[key], key)
    if upload["hr"] and (not isinstance(upload["hr"], int) or not 1 <= upload["hr"] <= 400):
        raise BadRequest("hr is not a heart rate")
    return upload


def find(number):
    try:
        return Patient.objects.get({"_id": number})
    except Patient.DoesNotExist:
        return None


def add_to(patient, upload):
    """Whether the upload brought anything new."""
    changed = False
    if upload["name"] and upload["name"] != patient.name:
        patient.name = upload["name"]
        changed = True
    if upload["medical_image"]:
        patient.medical_image.append(upload["medical_image"])
        changed = True
    if upload["ecg_image"]:
        patient.ecg_image.append(upload["ecg_image"])
        patient.heart_rate.append(upload["hr"])
        patient.timestamp.append(datetime.now().strftime("%Y-%m-%d %H:%M:%S"))
        changed = True
    return changed


@app.get("/")
def status():
    return "Server is on"


@app.post("/api/new_patient")
def new_patient():
    upload = parse_upload(request.get_json(silent=True))
    number = upload["id"]
    patient = find(number)
    if patient is None:
        patient = Patient(medical_record_number=number)
        add_to(patient, upload)
        patient.save()
        return f"New patient ID {number} is registered"
    if not add_to(patient, upload):
        return f"No further updates for Patient ID {number}"
    patient.save()
    return f"Patient ID {number}'s data has been updated"


@app.get("/api/get_patient")
def get_patients():
    # Numbers only: the lists stay in the database.
    patients = Patient.objects.only("medical_record_number").order_by([("_id", 1)])
    return jsonify(ID=[patient.medical_record_number for patient in patients])


@app.get("/api/get_patient/<raw>")
def get_patient(raw):
    number = parse_id(raw, "{} cannot be converted into integer")
    patient = find(number)
    if patient is None:
        raise BadRequest(f"{number} does not exist in the current database")
    return jsonify(
        ecg_image=patient.ecg_image,
        heart_rate=patient.heart_rate,
        id=number,
        medical_image=patient.medical_image,
        name=patient.name or "Not Specified",
        timestamp=patient.timestamp,
    )
